"""An Elasticsearch that checks keys and speaks TLS: a wrong key, a certificate that ends."""

from __future__ import annotations

import base64
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from rerank_server.gateway.settings import GatewaySettings
from tests.elasticsearch_node import start
from tests.es_plugin_config.nodes import ADMIN, HASH, PASSWORD
from tests.rerank_server.gateway.running import Caller, GatewayUnderTest, gateway

pytestmark = [pytest.mark.elasticsearch, pytest.mark.slow]

DAY = timedelta(days=1)
OWN = {"Authorization": f"Basic {base64.b64encode(f'{ADMIN}:{PASSWORD}'.encode()).decode()}"}
WRONG = {"Authorization": "ApiKey d3Jvbmc6a2V5"}
MILK = {"query": {"match": {"t": "milk"}}}


@dataclass
class SecureNode:
    """A node whose certificate can be put in the place of another while it runs."""

    url: str
    folder: Path
    authority: trustme.CA = field(repr=False)

    def put(self, ends: datetime) -> None:
        """Write a certificate that ends at a time; the node reads it within seconds."""
        files = certificate_files(self.authority, ends)
        for name, text in files.items():  # in place, so that they stay the node's own
            (self.folder / name).write_text(text)

    def wait_until(self, *, valid: bool) -> None:
        """Wait until a new connection is shown a certificate that is valid, or is not."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        address = (urlsplit(self.url).hostname or "", urlsplit(self.url).port or 0)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with (
                    socket.create_connection(address, timeout=10) as raw,
                    context.wrap_socket(raw, server_hostname=address[0]),
                ):
                    accepted = True
            except ssl.SSLError:  # also while certificate and key are not yet a pair
                accepted = False
            if accepted == valid:
                return
            time.sleep(0.2)
        raise AssertionError(f"no certificate with valid={valid}")


def certificate_files(authority: trustme.CA, ends: datetime) -> dict[str, str]:
    issued = authority.issue_cert("127.0.0.1", not_before=ends - 9 * DAY, not_after=ends)
    key = issued.private_key_pem.bytes().decode()
    return {"http.crt": issued.cert_chain_pems[0].bytes().decode(), "http.key": key}


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> tuple[trustme.CA, Path]:
    made = trustme.CA()
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    made.cert_pem.write_to_path(str(path))
    return made, path


@pytest.fixture(scope="module")
def secure(authority, elasticsearch_url) -> Iterator[SecureNode]:  # where there is none, this skips
    tls = "xpack.security.http.ssl"
    settings = {
        "xpack.security.enabled": "true",
        f"{tls}.enabled": "true",
        f"{tls}.certificate": "http.crt",
        f"{tls}.key": "http.key",
        "resource.reload.interval.high": "1s",
    }
    files = {
        "users": f"{ADMIN}:{HASH}\n",
        "users_roles": f"superuser:{ADMIN}\n",
        **certificate_files(authority[0], datetime.now(UTC) + DAY),
    }
    with start(settings=settings, files=files) as node:
        yield SecureNode(node.url, node.run / "config", authority[0])


def settings_for(secure: SecureNode, authority: Path, reranker: str) -> GatewaySettings:
    return GatewaySettings(
        elasticsearch=secure.url,
        elasticsearch_ca=authority,
        reranker=reranker,
        port=0,
        rerank_timeout_ms=2_000,
    )


@pytest.fixture(scope="module")
def before_secure(secure, authority, reranker_address) -> Iterator[GatewayUnderTest]:
    with gateway(settings_for(secure, authority[1], reranker_address)) as running:
        caller = Caller(running.url)
        for number in range(3):
            path = f"/shop/_doc/p{number}?refresh=true"
            assert caller.send("PUT", path, {"t": "milk"}, OWN).status == 201
        caller.close()
        yield running


def test_a_wrong_key_is_answered_as_elasticsearch_answers_it(before_secure):
    caller = Caller(before_secure.url)
    asking = {**MILK, "ext": {"rerank": {"query_id": "right"}}}
    right = caller.send("POST", "/shop/_search", asking, OWN)
    assert (right.status, right.rerank["status"], len(right.hits)) == (200, "reranked", 3)
    assert right.rerank["unknown_candidates"] == 3  # of an index that the store is not of
    (record,) = before_secure.records.of("right")
    assert record.unknown_candidates == 3

    for number, headers in enumerate((WRONG, {})):
        plain = caller.send("POST", "/shop/_search", MILK, headers)  # passed on as it is
        asking = {**MILK, "ext": {"rerank": {"query_id": f"wrong-{number}"}}}
        wrong = caller.send("POST", "/shop/_search", asking, headers)
        assert wrong.status == plain.status == 401
        assert wrong.json == plain.json
        assert wrong.json["error"]["type"] == "security_exception"
        assert wrong.headers["WWW-Authenticate"]
        assert wrong.headers["X-Rerank-Status"] == "degraded; reason=elasticsearch_refused"
        (record,) = before_secure.records.of(f"wrong-{number}")
        assert record.elasticsearch_status == 401
        assert record.degraded_reason == "elasticsearch_refused"
        assert "d3Jvbmc6a2V5" not in repr(record)
    caller.close()


@pytest.mark.usefixtures("before_secure")
def test_a_wrong_key_for_the_events_costs_the_events_alone(
    secure, authority, reranker_address, tmp_path
):
    key = tmp_path / "key"
    key.write_text(WRONG["Authorization"])
    settings = settings_for(secure, authority[1], reranker_address)
    with gateway(replace(settings, events_authorization=key)) as running:
        caller = Caller(running.url)
        asking = {**MILK, "ext": {"rerank": {"query_id": "no events", "shopper_id": "ann"}}}
        answer = caller.send("POST", "/shop/_search", asking, OWN)
        assert (answer.status, answer.rerank["status"], len(answer.hits)) == (200, "reranked", 3)
        (record,) = running.records.of("no events")
        assert (record.history_source, record.history_events) == ("none", 0)
        caller.close()


@pytest.mark.usefixtures("before_secure")
def test_a_certificate_that_has_expired_is_named_and_a_new_one_needs_no_restart(
    secure, authority, reranker_address
):
    secure.put(datetime.now(UTC) - DAY)
    secure.wait_until(valid=False)
    with gateway(settings_for(secure, authority[1], reranker_address)) as running:
        caller = Caller(running.url)
        asking = {**MILK, "ext": {"rerank": {"query_id": "expired"}}}
        for answer in (
            caller.send("POST", "/shop/_search", asking, OWN),
            caller.send("GET", "/_cluster/health", None, OWN),
        ):
            assert answer.status == 502
            assert answer.json["error"]["type"] == "crossrank_gateway_exception"
            assert "certificate has expired" in answer.json["error"]["reason"]
        (record,) = running.records.of("expired")
        assert (record.degraded_reason, record.elasticsearch_status) == (
            "elasticsearch_failed",
            502,
        )
        assert "certificate has expired" in record.degraded_detail

        secure.put(datetime.now(UTC) + DAY)
        secure.wait_until(valid=True)
        well = caller.send("POST", "/shop/_search", asking, OWN)
        assert (well.status, well.rerank["status"]) == (200, "reranked")
        caller.close()

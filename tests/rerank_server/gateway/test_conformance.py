"""Recorded requests give the same answers through the gateway as without it.

Once with a gateway that reranks nothing, byte for byte; once with one that is to rerank every
search and has no rerank server: what is widened and cut must be what Elasticsearch itself answers.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch

from rerank_server.gateway.settings import GatewaySettings
from tests.elasticsearch_installation import ElasticsearchUnavailableError
from tests.elasticsearch_node import start
from tests.rerank_server.gateway.recorded_requests import (
    TWIN,
    Recorded,
    odd_requests,
    requests_of_the_client,
    searches,
)
from tests.rerank_server.gateway.running import Answer, Caller, gateway
from tests.rerank_server.gateway.shop import shop

pytestmark = pytest.mark.elasticsearch

# The newest that runs on the packaged Java.
NINE = "9.2.0"
REQUESTS = [
    *requests_of_the_client(),
    *requests_of_the_client(compressed=True),
    *searches(),
    *odd_requests(),
]
# Headers of one connection, of the clock, and of a proxy that compresses anew or not.
_NOT_COMPARED = {"date", "server", "transfer-encoding", "content-length", "connection"}
# What differs from one answer to the next without any gateway.
_VOLATILE = re.compile(
    rb'"(?:took|took_in_millis|creation_date|start_time_in_millis|time_in_queue_millis'
    rb'|expiration_time_in_millis|keep_alive|"?version_created)" ?: ?"?\d+"?'
    rb'|"(?:uuid|index_uuid|_scroll_id|pit_id|id|node|nodes?_id|ephemeral_id|allocation_id|name)"'
    rb" ?: ?"
    rb'"[A-Za-z0-9_=\-+/]{20,}"'
    rb"|\[[A-Za-z0-9_=\-]{22}\]|for id \[\d+\]|took: \d+|took.{1,3}(?=itimed_out)"
    rb"|[A-Za-z0-9_\-]{22}(?=\"\s*:)|FGluY2x1ZGVfY29udGV4dF91dWlk[A-Za-z0-9=_\-]+"
)


@pytest.fixture(scope="module", params=["8.19", pytest.param("9.2", marks=pytest.mark.slow)])
def any_shop_url(request) -> Iterator[str]:
    """The shop on the tests' node, and on a node of Elasticsearch 9 of its own."""
    url = request.getfixturevalue("elasticsearch_url")
    with contextlib.ExitStack() as stack:
        if request.param != "8.19":
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setenv("CROSSRANK_ES_VERSION", NINE)
            try:
                url = stack.enter_context(start()).url
            except ElasticsearchUnavailableError as error:
                pytest.skip(str(error))
        yield stack.enter_context(shop(url))


def replay(url: str, requests: Sequence[Recorded]) -> list[Answer]:
    """Send the requests in order, with ids from answers before."""
    with Elasticsearch(url, request_timeout=60) as client:
        client.options(ignore_status=404).indices.delete(index=TWIN)
    caller = Caller(url)
    held = {"{scroll_id}": "none", "{pit_id}": "none"}
    answers = []
    for request in requests:
        answer = _send(caller, request, held)
        answers.append(answer)
        if b'"_scroll_id"' in answer.body:
            held["{scroll_id}"] = answer.json["_scroll_id"]
        elif request.target.startswith("/crossrank-products-shop/_pit") and answer.status == 200:
            held["{pit_id}"] = json.loads(_plain(answer))["id"]
    caller.close()
    return answers


def _send(caller: Caller, request: Recorded, held: dict[str, str]) -> Answer:
    body, headers = request.body, dict(request.headers)
    for name, value in held.items():
        if body is not None and b"gzip" not in headers.get("content-encoding", "").encode():
            body = body.replace(name.encode(), value.encode())
        elif body is not None and headers.get("content-encoding") == "gzip":
            plain = gzip.decompress(body).replace(name.encode(), value.encode())
            body = gzip.compress(plain, mtime=0)
    return caller.send(request.method, request.target, body, headers, chunked=request.chunked)


def _plain(answer: Answer) -> bytes:
    named = {name.lower(): value for name, value in answer.headers.items()}
    return gzip.decompress(answer.body) if named.get("content-encoding") == "gzip" else answer.body


def _headers(answer: Answer) -> dict[str, str]:
    return {
        name.lower(): value
        for name, value in answer.headers.items()
        if name.lower() not in _NOT_COMPARED and not name.lower().startswith("x-rerank")
    }


def _stable(body: bytes) -> bytes:
    return _VOLATILE.sub(b"*", body)


def test_there_are_more_than_three_hundred_requests():
    assert len({(r.method, r.target, r.body, *r.headers.items()) for r in REQUESTS}) >= 300


def test_what_is_not_reranked_passes_byte_for_byte(any_shop_url):
    settings = GatewaySettings(elasticsearch=any_shop_url, reranker="127.0.0.1:9", port=0)
    without = replay(any_shop_url, REQUESTS)
    with gateway(settings) as running:
        through = replay(running.url, REQUESTS)
    different = [
        f"{request.name}\n  without {a.status} {_headers(a)} {_stable(_plain(a))[:3000]!r}\n"
        f"  through {b.status} {_headers(b)} {_stable(_plain(b))[:3000]!r}"
        for request, a, b in zip(REQUESTS, without, through, strict=True)
        if (a.status, a.reason, _headers(a), _stable(_plain(a)))
        != (b.status, b.reason, _headers(b), _stable(_plain(b)))
    ]
    assert not different, "\n".join([f"{len(different)} differ", *different[:20]])
    assert {request.status for request in without} >= {200, 201, 400, 404, 405, 409}


def test_a_search_that_cannot_be_reranked_is_answered_as_without_a_gateway(any_shop_url, tmp_path):
    rules = tmp_path / "rules.toml"
    rules.write_text('[[index]]\npattern = "*"\nrerank = true\nwindow = 60\n')
    settings = GatewaySettings(
        elasticsearch=any_shop_url, reranker="127.0.0.1:9", port=0, rules=Path(rules)
    )
    requests = [*requests_of_the_client(), *searches(), *odd_requests()]
    without = replay(any_shop_url, requests)
    with gateway(settings) as running:
        through = replay(running.url, requests)
    different, degraded = [], 0
    for request, a, answer in zip(requests, without, through, strict=True):
        b, changed = _without_status(answer)
        degraded += changed
        bodies = (_plain(a), _plain(b))
        if changed:
            bodies = (_written_alike(bodies[0]), _written_alike(bodies[1]))
        if (a.status, _headers(a), _stable(bodies[0])) != (
            b.status,
            _headers(b),
            _stable(bodies[1]),
        ):
            different.append(
                f"{request.name}\n  without {a.status} {_headers(a)} {_stable(bodies[0])[:3000]!r}"
                f"\n  through {b.status} {_headers(b)} {_stable(bodies[1])[:3000]!r}"
            )
    assert not different, "\n".join([f"{len(different)} differ", *different[:20]])
    assert degraded >= 100


def _written_alike(body: bytes) -> bytes:
    return json.dumps(json.loads(body)).encode()


def _without_status(answer: Answer) -> tuple[Answer, bool]:
    """The answer without `ext.rerank`, and whether it had one."""
    plain = _plain(answer)
    if b'"rerank"' not in plain:
        return answer, b"degraded" in answer.headers.get("X-Rerank-Status", "").encode()
    body = json.loads(plain)
    for part in [body, *body.get("responses", [])]:
        said = part.get("ext", {}).pop("rerank", None)
        if said is not None:
            assert said["status"] == "degraded" or said["candidates"] == 0, said
            if not part["ext"]:
                del part["ext"]
    encoded = json.dumps(body).encode()
    if "content-encoding" in map(str.lower, answer.headers):
        encoded = gzip.compress(encoded)
    return replace(answer, body=encoded), True

"""Puts the dashboards and alert rules into a Kibana by its API; safe to repeat."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from es_plugin_config.kibana.alerts import ALERTS, kibana_rule
from es_plugin_config.kibana.saved_objects import ndjson, saved_objects
from rerank_server.contract.errors import RerankError

Json: TypeAlias = dict[str, Any]
_TIMEOUT_S = 60.0
_HTTP_OK = 200
_HTTP_NOT_FOUND = 404
_SHOWN_CHARS = 300


class KibanaError(RerankError):
    """A Kibana that does not answer, is none, or refuses what it is given."""


@dataclass(frozen=True, slots=True)
class Kibana:
    """Where a Kibana is.

    Attributes:
        url: `http(s)://host:port`, a base path, and `user:password@` where it wants them.
        space: Id of the space; empty means the default one.
        api_key: Elasticsearch's, encoded as it gives it out; None sends none.
        certificates: PEM file of who signed its certificate; None asks the system's.
    """

    url: str
    space: str = ""
    api_key: str | None = field(default=None, repr=False)
    certificates: Path | None = None


def upload_dashboards(kibana: Kibana) -> int:
    """Import every data view, saved search and dashboard over what is there; return how many.

    Raises:
        KibanaError: When nobody answers, or not all of them were taken.
    """
    objects = saved_objects()
    boundary = uuid.uuid4().hex
    body = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="file"; filename="crossrank.ndjson"\r\n'
        f"Content-Type: application/x-ndjson\r\n\r\n{ndjson(objects)}\r\n--{boundary}--\r\n"
    )
    status, answer = _call(
        kibana,
        "POST",
        "/api/saved_objects/_import?overwrite=true",
        body.encode(),
        {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    if status != _HTTP_OK or not answer.get("success"):
        raise KibanaError(f"Kibana: got {status} {_shown(answer)}, want every object imported")
    return int(answer["successCount"])


def upload_rules(kibana: Kibana) -> list[str]:
    """Create the alert rules that are not there yet, disabled; return their ids.

    A rule that is there is left as it is: somebody may have given it actions or another threshold.

    Raises:
        KibanaError: When nobody answers or a rule is refused.
    """
    created = []
    for alert in ALERTS:
        if not alert.stream:
            continue
        path = f"/api/alerting/rule/{quote(alert.alert_id)}"
        status, answer = _call(kibana, "GET", path)
        if status == _HTTP_OK:
            continue
        if status == _HTTP_NOT_FOUND:
            body = json.dumps(kibana_rule(alert)).encode()
            status, answer = _call(kibana, "POST", path, body, {"Content-Type": "application/json"})
        if status != _HTTP_OK:
            raise KibanaError(
                f"Kibana, rule {alert.alert_id}: got {status} {_shown(answer)}, want 200"
            )
        created.append(alert.alert_id)
    return created


def _call(
    kibana: Kibana,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Json]:
    """Return the status and the JSON of an answer.

    Raises:
        KibanaError: When nobody answers, or somebody that is no Kibana.
    """
    if not _is_address(kibana.url):
        shown = kibana.url.rpartition("@")[2]  # no password in an error
        raise KibanaError(f"address of Kibana: got {shown!r}, want http(s)://host:port")
    address = urlsplit(kibana.url)
    prefix = address.path.rstrip("/") + (f"/s/{quote(kibana.space)}" if kibana.space else "")
    connection = _connection(kibana)
    try:
        connection.request(
            method, prefix + path, body, {"kbn-xsrf": "true", **_login(kibana), **(headers or {})}
        )
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise KibanaError(
            f"Kibana at {address.hostname}:{address.port or '(default port)'}: got"
            f" {str(error) or type(error).__name__}, want an answer"
        ) from error
    finally:
        connection.close()
    try:
        answer = json.loads(content)
    except ValueError as error:
        shown = content[:_SHOWN_CHARS].decode("utf-8", errors="replace")
        raise KibanaError(
            f"Kibana at {address.hostname}: got {response.status} {shown!r}, want JSON"
        ) from error
    return response.status, answer


def _is_address(text: str) -> bool:
    try:
        address = urlsplit(text)
        address.port  # noqa: B018 - reading it checks it
    except ValueError:
        return False
    return address.scheme in ("http", "https") and bool(address.hostname)


def _connection(kibana: Kibana) -> http.client.HTTPConnection:
    address = urlsplit(kibana.url)
    host = address.hostname or ""
    if address.scheme == "https":
        context = ssl.create_default_context(cafile=kibana.certificates)
        return http.client.HTTPSConnection(
            host, address.port or 443, timeout=_TIMEOUT_S, context=context
        )
    return http.client.HTTPConnection(host, address.port or 80, timeout=_TIMEOUT_S)


def _login(kibana: Kibana) -> dict[str, str]:
    if kibana.api_key:
        return {"Authorization": f"ApiKey {kibana.api_key}"}
    address = urlsplit(kibana.url)
    if address.username is None:
        return {}
    login = f"{unquote(address.username)}:{unquote(address.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def _shown(answer: Json | Sequence[Any]) -> str:
    return json.dumps(answer)[:_SHOWN_CHARS]

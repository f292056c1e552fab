"""One Elasticsearch cluster: how it is reached, what it can do, and what its refusals mean."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from elasticsearch import ApiError, ConnectionTimeout, Elasticsearch, TransportError

from rerank_server.contract.errors import RerankError

TIMEOUT_S = 30.0
_LONGEST_REASON = 400
_NO_SUCH_ROUTE = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
# What its routes say, with status 500, where security is switched off.
_SECURITY_OFF = "security is not enabled"


class ConfigurationClusterError(RerankError):
    """A cluster that cannot be reached or refuses the configuration."""


class ClusterAccessError(ConfigurationClusterError):
    """A cluster that does not know the caller, or does not let it do this."""


class ClusterReadOnlyError(ConfigurationClusterError):
    """An index that takes no writes, for the disk is full or someone said so."""


@dataclass(frozen=True, slots=True)
class Login:
    """How a cluster is reached.

    Attributes:
        url: With `user:password@` where the cluster wants them.
        api_key_file: Holds an API key in its encoded form; None for none.
        ca_file: Certificates that sign the cluster's, PEM; None for the system's.
        timeout_s: Of one request.
    """

    url: str
    api_key_file: Path | None = None
    ca_file: Path | None = None
    timeout_s: float = TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Features:
    """What the nodes of a cluster can do.

    Attributes:
        version: The oldest node's, such as `8.19.4`; empty when the caller may not ask.
        modules: Names of the modules that every node has; None when the caller may not ask.
        processors: Names of the ingest processors that every node has; None likewise.
        security: Whether users and roles are checked.
    """

    version: str
    modules: frozenset[str] | None
    processors: frozenset[str] | None
    security: bool

    @property
    def major(self) -> int:
        """The first number of the version; 0 when that is not known."""
        return int(self.version.split(".")[0]) if self.version else 0

    def has_module(self, name: str) -> bool:
        """Whether every node has the module, or it is not known."""
        return self.modules is None or name in self.modules

    def has_processor(self, name: str) -> bool:
        """Whether every node has the ingest processor, or it is not known."""
        return self.processors is None or name in self.processors


@contextmanager
def connect(login: Login) -> Iterator[Elasticsearch]:
    """A client that tries each request once, closed at the end of the block.

    Raises:
        ConfigurationClusterError: The address is none, or a file cannot be read.
    """
    options: dict[str, Any] = {"request_timeout": login.timeout_s, "max_retries": 0}
    if login.api_key_file is not None:
        options["api_key"] = read_key(login.api_key_file)
    if login.ca_file is not None:
        if not login.ca_file.is_file():
            raise ConfigurationClusterError(
                f"certificates: got no file {login.ca_file}, want one in PEM"
            )
        options["ca_certs"] = str(login.ca_file)
    try:
        client = Elasticsearch(login.url, **options)
    except ValueError as error:
        raise ConfigurationClusterError(
            f"address of Elasticsearch: got {_without_password(login.url)!r} ({error}), "
            "want one like http://localhost:9200"
        ) from error
    with client:
        yield client


def call(client: Elasticsearch, method: str, path: str, body: object | None = None) -> Any:  # noqa: ANN401 - any JSON value
    """One request with JSON; None when a GET or DELETE finds nothing under that path.

    Raises:
        ClusterAccessError: The caller is unknown or may not do this.
        ClusterReadOnlyError: The index takes no writes.
        ConfigurationClusterError: The cluster cannot be reached or refuses.
    """
    headers = {"accept": "application/json", "content-type": "application/json"}
    try:
        return client.perform_request(method, path, headers=headers, body=body).body
    except ApiError as error:
        if method in ("GET", "DELETE") and error.status_code == HTTPStatus.NOT_FOUND:
            return None
        refuse(f"{method} {path}", error.status_code, error.body)
    except ConnectionTimeout as error:
        raise ConfigurationClusterError(
            f"{method} {path}: got no answer in time, want one from Elasticsearch"
        ) from error
    except TransportError as error:
        raise ConfigurationClusterError(
            f"{method} {path}: got {error}, want an answer from Elasticsearch"
        ) from error


def refuse(what: str, status: int, body: object) -> NoReturn:
    """Raise the error that an answer with `status` and `body` means; `what` was asked.

    Raises:
        ConfigurationClusterError: The child that names the cause.
    """
    kind, reason = failure(body)
    if status == HTTPStatus.UNAUTHORIZED:
        raise ClusterAccessError(
            f"{what}: got status 401 ({reason}), want a password or an API key that it knows"
        )
    if kind == "cluster_block_exception":
        hint = " (free disk space first)" if "flood-stage" in reason else ""
        raise ClusterReadOnlyError(f"{what}: got {reason}, want an index that takes writes{hint}")
    if status == HTTPStatus.FORBIDDEN:
        raise ClusterAccessError(f"{what}: got status 403 ({reason}), want that privilege")
    raise ConfigurationClusterError(f"{what}: got status {status} ({reason}), want 200")


def failure(body: object) -> tuple[str, str]:
    """Type and reason of a refusal's body, or of the `error` of one bulk item."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return "", str(error)[:_LONGEST_REASON]
    reason = str(error.get("reason", json.dumps(error, default=str)))
    cause = error.get("caused_by")
    if isinstance(cause, dict) and "reason" in cause:
        reason = f"{reason}: {cause['reason']}"
    return str(error.get("type", "")), reason[:_LONGEST_REASON]


def read_features(client: Elasticsearch) -> Features:
    """Ask the nodes what they can do.

    Raises:
        ConfigurationClusterError: The cluster cannot be reached or does not know the caller.
    """
    security = _has_security(client)
    wanted = "nodes.*.version,nodes.*.modules.name,nodes.*.ingest.processors.type"
    try:
        answer = call(client, "GET", f"/_nodes/plugins,ingest?filter_path={quote(wanted)}") or {}
    except ClusterAccessError:
        if not security:
            raise
        return Features("", None, None, security)
    nodes = list(answer.get("nodes", {}).values())
    if not nodes:
        return Features("", None, None, security)
    return Features(
        version=min((node["version"] for node in nodes), key=_version_order),
        modules=frozenset.intersection(*(_names(node.get("modules"), "name") for node in nodes)),
        processors=frozenset.intersection(
            *(_names(node.get("ingest", {}).get("processors"), "type") for node in nodes)
        ),
        security=security,
    )


def _has_security(client: Elasticsearch) -> bool:
    headers = {"accept": "application/json"}
    try:
        client.perform_request("GET", "/_security/_authenticate", headers=headers)
    except ApiError as error:
        _, reason = failure(error.body)
        if error.status_code in _NO_SUCH_ROUTE or _SECURITY_OFF in reason.lower():
            return False
        refuse("GET /_security/_authenticate", error.status_code, error.body)
    except TransportError as error:
        raise ConfigurationClusterError(
            f"Elasticsearch: got {error}, want an answer from it"
        ) from error
    return True


def _names(entries: list[dict[str, Any]] | None, key: str) -> frozenset[str]:
    return frozenset(str(entry[key]) for entry in entries or ())


def _version_order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-", maxsplit=1)[0].split("."))


def read_key(file: Path) -> str:
    """Return the API key that a file holds.

    Raises:
        ConfigurationClusterError: The file cannot be read or is empty.
    """
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationClusterError(
            f"API key: got {reason} for {file}, want a file with a key"
        ) from error
    if not key:
        raise ConfigurationClusterError(f"API key: got an empty file {file}, want a key")
    return key


def _without_password(url: str) -> str:
    scheme, mark, rest = url.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"

"""The settings of the gateway, read once from flags and RERANK_GATEWAY_* variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path

from rerank_server.contract.errors import nearest
from rerank_server.gateway.errors import GatewaySettingsError
from rerank_server.page import MAX_CANDIDATES, MAX_EVENTS

PREFIX = "RERANK_GATEWAY_"
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What the gateway can be told.

    Attributes:
        elasticsearch: Address of Elasticsearch, http(s)://host:port; several with commas between.
        reranker: Where the rerank server listens, host:port.
        host: Address to listen on; loopback unless told otherwise.
        port: Port to listen on; 0 takes a free one.
        rules: TOML file of the indices that are reranked without asking; none has no rules.
        window: How many of the first candidates are reranked, where nothing else says.
        rerank_timeout_ms: Longest time for the reranker, where a search says nothing else.
        search_timeout_ms: Longest time for Elasticsearch in a search that is reranked.
        connect_timeout_ms: Longest time to connect to Elasticsearch.
        max_body_bytes: Largest body that is looked at; searches with larger ones pass unchanged.
        max_rerank_calls: Pages at the reranker at the same time; more are not reranked.
        keep_pages_s: How long further pages of a search keep the order of its first; 0 ranks anew.
        events_index: Index or data stream of the shoppers' events; an empty text reads none.
        events_field: Field of an event that holds the shopper.
        events_limit: Newest events of a shopper to read.
        events_timeout_ms: How long a search waits for them.
        events_keep_s: How long they are kept.
        events_shoppers: Of how many shoppers they are kept.
        events_authorization: File with the Authorization header to read them with; none takes
            the caller's.
        events_hashed: Whether the stream holds the shopper as hashed with the shopper key.
        shopper_key: File with the key that hashes shopper ids for telemetry; none leaves them out.
        elasticsearch_ca: PEM file of who signed Elasticsearch's certificate; none: the system's.
        reranker_ca: PEM file of who signed the reranker's certificate; none speaks clear text.
        reranker_token: File with the bearer token for the reranker; none sends none.
        insecure_listen: Whether other machines may reach the port in clear text.
        tls_certificate: PEM file of the gateway's certificate and its chain; none: clear text.
        tls_key: PEM file of its private key.
        metrics_host: Address of metrics and probes; loopback unless told otherwise.
        metrics_port: Port of metrics and probes, 0 takes a free one; -1 means no such port.
        stop_grace_ms: Time that requests in flight get to finish when the gateway stops.
        log_level: debug, info (every degraded search), warning or error.
    """

    elasticsearch: str = "http://127.0.0.1:9200"
    reranker: str = "127.0.0.1:50061"
    host: str = "127.0.0.1"
    port: int = 9280
    rules: Path | None = None
    window: int = 100
    rerank_timeout_ms: int = 200
    search_timeout_ms: int = 30_000
    connect_timeout_ms: int = 1_000
    max_body_bytes: int = 8 * 1024 * 1024
    max_rerank_calls: int = 256
    keep_pages_s: int = 60
    events_index: str = "ubi_events"
    events_field: str = "client_id"
    events_limit: int = 200
    events_timeout_ms: int = 30
    events_keep_s: int = 10
    events_shoppers: int = 10_000
    events_authorization: Path | None = None
    events_hashed: bool = False
    shopper_key: Path | None = None
    elasticsearch_ca: Path | None = None
    reranker_ca: Path | None = None
    reranker_token: Path | None = None
    insecure_listen: bool = False
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int = -1
    stop_grace_ms: int = 5_000
    log_level: str = "info"

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            GatewaySettingsError: When a setting is out of range.
        """
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise GatewaySettingsError(f"{name}: got {value}, want {low} to {high}")
        if not self.nodes:
            raise GatewaySettingsError(
                f"elasticsearch: got {self.elasticsearch!r}, want http(s)://host:port"
            )
        if self.log_level not in LOG_LEVELS:
            raise GatewaySettingsError(
                f"log_level: got {self.log_level!r}, want one of {', '.join(LOG_LEVELS)}"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise GatewaySettingsError(
                "tls_certificate and tls_key: got one of them, want both or none"
            )
        if self.events_hashed and self.shopper_key is None:
            raise GatewaySettingsError("events_hashed: got it alone, want shopper_key too")

    @property
    def nodes(self) -> tuple[str, ...]:
        """The addresses of Elasticsearch."""
        return tuple(part.strip() for part in self.elasticsearch.split(",") if part.strip())

    @property
    def stop_grace(self) -> timedelta:
        """Time that requests in flight get to finish."""
        return timedelta(milliseconds=self.stop_grace_ms)


_RANGES = {
    "port": (0, 65_535),
    "window": (1, MAX_CANDIDATES),
    "rerank_timeout_ms": (1, 60_000),
    "search_timeout_ms": (1, 3_600_000),
    "connect_timeout_ms": (1, 60_000),
    "max_body_bytes": (1_024, 256 * 1024 * 1024),
    "max_rerank_calls": (1, 100_000),
    "keep_pages_s": (0, 86_400),
    "events_limit": (1, MAX_EVENTS),
    "events_timeout_ms": (1, 10_000),
    "events_keep_s": (0, 86_400),
    "events_shoppers": (1, 10_000_000),
    "metrics_port": (-1, 65_535),
    "stop_grace_ms": (0, 600_000),
}
_SWITCHES = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def read_gateway_settings(
    flags: Mapping[str, str | None], environment: Mapping[str, str]
) -> GatewaySettings:
    """Return the settings: a flag wins over a variable, a variable over the default.

    Args:
        flags: Setting name -> text, None where the flag was not given.
        environment: The process environment.

    Raises:
        GatewaySettingsError: On an unknown RERANK_GATEWAY_* variable or a wrong value.
    """
    kinds = {item.name: str(item.type) for item in fields(GatewaySettings)}
    texts: dict[str, str] = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in kinds:
            known = [PREFIX + item.upper() for item in kinds]
            raise GatewaySettingsError(
                f"{variable}: got an unknown variable, want one of {', '.join(known)}"
                f"{nearest(variable, known)}"
            )
        texts[name] = text
    texts |= {name: text for name, text in flags.items() if text is not None}
    values = {name: _value(name, text, kinds[name]) for name, text in texts.items()}
    return GatewaySettings(**values)  # type: ignore[arg-type] # each by its own type


def _value(name: str, text: str, kind: str) -> str | int | bool | Path:
    if kind == "Path | None":
        return Path(text)
    if kind == "bool":
        if text.lower() not in _SWITCHES:
            raise GatewaySettingsError(f"{name}: got {text!r}, want true or false")
        return _SWITCHES[text.lower()]
    if kind == "int":
        try:
            return int(text)
        except ValueError as error:
            raise GatewaySettingsError(f"{name}: got {text!r}, want a whole number") from error
    return text

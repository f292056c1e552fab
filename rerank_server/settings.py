"""The settings of the server, read once from flags and RERANK_* variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path

from rerank_server.contract.errors import RerankError, nearest
from rerank_server.cores import available_cores

PREFIX = "RERANK_"
# Variables of programs beside the server.
OTHER_PROGRAMS = "RERANK_GATEWAY_"
LOG_LEVELS = ("debug", "info", "warning", "error")


class SettingsError(RerankError):
    """A setting that is missing, unknown or out of range."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the server can be told; `RERANK_` and the name in capitals sets it as well.

    Attributes:
        bundle: Folder of the bundle.
        products: Folder of the product store.
        host: Address to listen on; loopback unless told otherwise.
        port: Port to listen on; 0 takes a free one.
        processes: Server processes behind the port, each with its share of the cores.
        start_timeout_ms: Longest time until one of several processes serves; then it is killed.
        workers: Pages reranked at the same time; 0 means as many as there are cores.
        scorer_threads: Threads of one scorer call; 0 means as many as there are cores.
        timeout_ms: Longest time for one page, also when the client sets no deadline.
        stop_grace_ms: Time that calls in flight get to finish when the server stops.
        max_message_bytes: Largest message accepted.
        unread_calls: Calls that may wait before the server looks at them; one more is cut off.
        log_level: debug (every call), info, warning or error.
        insecure_listen: Whether other machines may reach a port in clear text.
        tls_certificate: PEM file of the server's certificate and its chain; none means clear text.
        tls_key: PEM file of its private key.
        tls_client_ca: PEM file of who signs clients' certificates; none asks clients for none.
        policy: TOML file of the policy's rules, read again when it changes; none has no rules.
        tokens: TOML file of the bearer tokens; none lets in everyone who reaches the port.
        metrics_host: Address of metrics and probes; loopback unless told otherwise.
        metrics_port: Port of metrics and probes, 0 takes a free one; -1 means no such port.
        access_log_share: Share of the calls that is logged, 0 to 1; failed ones always are.
        shopper_key: File with the key that hashes shopper ids in the log; none leaves them out.
        otlp_endpoint: Collector of OpenTelemetry spans, http://host:port; none exports none.
        admin: Whether the admin service answers, which changes the bundle while serving.
        device: What scores: auto (a GPU where there is one), cpu, cuda, tensorrt, tensorrt-fp16.
        changes: Folder of the log of changed products; none takes no changes while serving.
        http_port: Port of the HTTP door, 0 takes a free one; -1 means no such port.
    """

    bundle: Path
    products: Path
    host: str = "127.0.0.1"
    port: int = 50061
    processes: int = 1
    start_timeout_ms: int = 600_000
    workers: int = 0
    scorer_threads: int = 0
    timeout_ms: int = 1_000
    stop_grace_ms: int = 5_000
    max_message_bytes: int = 4 * 1024 * 1024
    unread_calls: int = 256
    log_level: str = "info"
    insecure_listen: bool = False
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    tokens: Path | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int = -1
    access_log_share: float = 0.0
    shopper_key: Path | None = None
    otlp_endpoint: str | None = None
    admin: bool = False
    http_port: int = -1
    device: str = "auto"
    changes: Path | None = None
    policy: Path | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            SettingsError: When a setting is out of range.
        """
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise SettingsError(f"{name}: got {value}, want {low} to {high}")
        if self.log_level not in LOG_LEVELS:
            raise SettingsError(
                f"log_level: got {self.log_level!r}, want one of {', '.join(LOG_LEVELS)}"
            )
        endpoint = self.otlp_endpoint
        if endpoint is not None and not endpoint.startswith(("http://", "https://")):
            raise SettingsError(f"otlp_endpoint: got {endpoint!r}, want http://host:port")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise SettingsError("tls_certificate and tls_key: got one of them, want both or none")
        if self.tls_client_ca is not None and self.tls_key is None:
            raise SettingsError("tls_client_ca: got it alone, want tls_certificate and tls_key too")

    @property
    def worker_count(self) -> int:
        """Pages reranked at the same time."""
        return self.workers or max(1, available_cores() // self.processes)

    @property
    def scorer_thread_count(self) -> int:
        """Threads of one scorer call."""
        return self.scorer_threads or max(1, available_cores() // self.processes)

    @property
    def timeout(self) -> timedelta:
        """Longest time for one page."""
        return timedelta(milliseconds=self.timeout_ms)

    @property
    def start_timeout(self) -> timedelta:
        """Longest time until one of several processes serves."""
        return timedelta(milliseconds=self.start_timeout_ms)

    @property
    def stop_grace(self) -> timedelta:
        """Time that calls in flight get to finish when the server stops."""
        return timedelta(milliseconds=self.stop_grace_ms)


_RANGES = {
    "port": (0, 65_535),
    "processes": (1, 1_024),
    "start_timeout_ms": (1_000, 86_400_000),
    "workers": (0, 1_024),
    "scorer_threads": (0, 1_024),
    "timeout_ms": (1, 600_000),
    "stop_grace_ms": (0, 600_000),
    "max_message_bytes": (1_024, 256 * 1024 * 1024),
    "unread_calls": (1, 1_024),
    "metrics_port": (-1, 65_535),
    "access_log_share": (0, 1),
    "http_port": (-1, 65_535),
}
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def read_settings(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> Settings:
    """Return the settings: a flag wins over a variable, a variable over the default.

    Args:
        flags: Setting name -> text, None where the flag was not given.
        environment: The process environment.

    Raises:
        SettingsError: On an unknown RERANK_* variable, a missing or a wrong value.
    """
    names = {item.name: item.type for item in fields(Settings)}
    values: dict[str, str] = {}
    for variable, value in environment.items():
        if variable.startswith(PREFIX) and not variable.startswith(OTHER_PROGRAMS):
            name = variable.removeprefix(PREFIX).lower()
            if name not in names:
                known = [PREFIX + item.upper() for item in names]
                raise SettingsError(
                    f"{variable}: got an unknown variable, want one of {', '.join(known)}"
                    f"{nearest(variable, known)}"
                )
            values[name] = value
    values |= {name: value for name, value in flags.items() if value is not None}
    for name in ("bundle", "products"):
        if not values.get(name):
            raise SettingsError(
                f"{name}: got none, want a folder by --{name} or {PREFIX}{name.upper()}"
            )
    typed: dict[str, str | float | Path] = {}
    for name, value in values.items():
        typed[name] = _parse(name, value, str(names[name]))
    return Settings(**typed)  # type: ignore[arg-type]


def _parse(name: str, value: str, kind: str) -> str | float | Path:
    if kind in {"Path", "Path | None"}:
        return Path(value)
    if kind in {"str", "str | None"}:
        return value
    if kind == "bool":
        if value.lower() not in _FLAGS:
            raise SettingsError(f"{name}: got {value!r}, want true or false")
        return _FLAGS[value.lower()]
    if kind == "float":
        try:
            return float(value)
        except ValueError as error:
            raise SettingsError(f"{name}: got {value!r}, want a number") from error
    try:
        return int(value)
    except ValueError as error:
        raise SettingsError(f"{name}: got {value!r}, want a whole number") from error

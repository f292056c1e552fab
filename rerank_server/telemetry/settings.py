"""Where telemetry goes and what it may say, and what is built from that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rerank_server.contract.errors import RerankError, nearest
from rerank_server.gateway.record import SearchRecord, SearchRecorder
from rerank_server.telemetry.bulk import BulkSender
from rerank_server.telemetry.counts import TelemetryCounts
from rerank_server.telemetry.document import STREAM, DocumentRules
from rerank_server.telemetry.recorder import TelemetryRecorder
from rerank_server.telemetry.spool import Spool

_NAMES = "telemetry_"  # how the name of every setting begins
_MIB = 1024 * 1024
_MIN_SPOOL_BYTES = 16 * _MIB
_MAX_QUERY_CHARS = 1_024  # what the mapping indexes
_MAX_PRODUCTS = 1_000


class TelemetrySettingsError(RerankError):
    """A setting of telemetry that is missing or out of range."""


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """How searches are recorded.

    Attributes:
        telemetry_url: Elasticsearch that takes the documents, http(s)://host:port with
            user:password@ where it wants them; none records nothing there.
        telemetry_spool: Folder of what waits to be sent, of this process alone.
        telemetry_spool_bytes: Most bytes that wait; searches beyond are lost and counted.
        telemetry_stream: Data stream of the documents.
        telemetry_api_key: File with an API key of Elasticsearch; none sends none.
        telemetry_certificates: PEM file of who signs its certificate; none asks the system's.
        telemetry_query_text: Whether the query's text is recorded.
        telemetry_query_chars: Characters of the query that are recorded.
        telemetry_client_ids: Whether the keyed hashes of shopper and session are recorded.
        telemetry_products: Longest list of products recorded in each order.
        telemetry_otlp: Collector of OpenTelemetry spans of searches; none exports none.
    """

    telemetry_url: str | None = None
    telemetry_spool: Path | None = None
    telemetry_spool_bytes: int = 1_024 * _MIB
    telemetry_stream: str = STREAM
    telemetry_api_key: Path | None = None
    telemetry_certificates: Path | None = None
    telemetry_query_text: bool = True
    telemetry_query_chars: int = 256
    telemetry_client_ids: bool = True
    telemetry_products: int = 200
    telemetry_otlp: str | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            TelemetrySettingsError: When a setting is missing or out of range.
        """
        for name in ("telemetry_url", "telemetry_otlp"):
            value = getattr(self, name)
            if value is not None and not _is_address(value):
                shown = value.rpartition("@")[2]  # no password in an error
                raise TelemetrySettingsError(f"{name}: got {shown!r}, want http(s)://host:port")
        if (self.telemetry_url is None) != (self.telemetry_spool is None):
            raise TelemetrySettingsError(
                "telemetry_url and telemetry_spool: got one of them, want both or none"
            )
        for name, low, high in (
            ("telemetry_spool_bytes", _MIN_SPOOL_BYTES, None),
            ("telemetry_query_chars", 1, _MAX_QUERY_CHARS),
            ("telemetry_products", 0, _MAX_PRODUCTS),
        ):
            value = getattr(self, name)
            if value < low or (high is not None and value > high):
                want = f"{low} or more" if high is None else f"{low} to {high}"
                raise TelemetrySettingsError(f"{name}: got {value}, want {want}")

    @property
    def document_rules(self) -> DocumentRules:
        """What of a search is written down."""
        return DocumentRules(
            query_text=self.telemetry_query_text,
            query_chars=self.telemetry_query_chars,
            client_ids=self.telemetry_client_ids,
            products=self.telemetry_products,
        )


_SWITCHES = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def read_telemetry_settings(
    flags: Mapping[str, str | None], environment: Mapping[str, str], prefix: str
) -> TelemetrySettings:
    """Return the settings: a flag wins over a variable, a variable over the default.

    Args:
        flags: Setting name -> text, None where the flag was not given.
        environment: The process environment.
        prefix: Of the variables: `prefix` and the name in capitals.

    Raises:
        TelemetrySettingsError: On an unknown variable or a wrong value.
    """
    kinds = {item.name: str(item.type) for item in fields(TelemetrySettings)}
    texts: dict[str, str] = {}
    for variable, text in environment.items():
        name = variable.removeprefix(prefix).lower()
        if not variable.startswith(prefix) or not name.startswith(_NAMES):
            continue
        if name not in kinds:
            known = [prefix + item.upper() for item in kinds]
            raise TelemetrySettingsError(
                f"{variable}: got an unknown variable, want one of {', '.join(known)}"
                f"{nearest(variable, known)}"
            )
        texts[name] = text
    texts |= {name: text for name, text in flags.items() if text is not None}
    values = {name: _value(name, text, kinds[name]) for name, text in texts.items()}
    return TelemetrySettings(**values)  # type: ignore[arg-type] # each by its own type


def without_telemetry(environment: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Return the environment without the variables that `read_telemetry_settings` reads."""
    ours = f"{prefix}{_NAMES}".upper()
    return {name: text for name, text in environment.items() if not name.startswith(ours)}


def _value(name: str, text: str, kind: str) -> str | int | bool | Path:
    if kind == "Path | None":
        return Path(text)
    if kind == "bool":
        if text.lower() not in _SWITCHES:
            raise TelemetrySettingsError(f"{name}: got {text!r}, want true or false")
        return _SWITCHES[text.lower()]
    if kind == "int":
        try:
            return int(text)
        except ValueError as error:
            raise TelemetrySettingsError(f"{name}: got {text!r}, want a whole number") from error
    return text


class Telemetry(Collector):
    """Every recorder that the settings ask for; a `SearchRecorder` itself.

    Attributes:
        counts: What the recorder of documents counts.
    """

    def __init__(self, settings: TelemetrySettings) -> None:
        """Open the spool and start; with nothing asked for, records go nowhere.

        Raises:
            SpoolError: When the spool's folder cannot be used.
            TelemetrySettingsError: When the API key cannot be read or an extra is missing.
        """
        self.counts = TelemetryCounts()
        self._recorders: list[_Closable] = []
        if settings.telemetry_url is not None and settings.telemetry_spool is not None:
            sender = BulkSender(
                settings.telemetry_url,
                settings.telemetry_stream,
                _read_api_key(settings.telemetry_api_key),
                settings.telemetry_certificates,
            )
            spool = Spool(settings.telemetry_spool, settings.telemetry_spool_bytes)
            self._recorders.append(
                TelemetryRecorder(spool, sender, settings.document_rules, self.counts)
            )
        if settings.telemetry_otlp is not None:
            try:
                from rerank_server.telemetry.search_spans import (  # noqa: PLC0415 - an extra
                    SearchSpans,
                )
            except ImportError as error:
                raise TelemetrySettingsError(
                    f"telemetry_otlp: got no module {error.name!r}, want"
                    " `pip install 'crossrank[otlp]'`"
                ) from error

            self._recorders.append(SearchSpans(settings.telemetry_otlp))

    @property
    def recorders(self) -> Sequence[SearchRecorder]:
        """Those that were asked for; none means that telemetry is off."""
        return self._recorders

    def record(self, search: SearchRecord) -> None:
        """Give one search to every recorder; returns at once."""
        for recorder in self._recorders:
            recorder.record(search)

    def collect(self) -> Iterable[Metric]:
        """Yield every family, for Prometheus; none where no documents are recorded."""
        if self.counts.backlog is not None:
            yield from self.counts.collect()

    def close(self) -> None:
        """Write down what is queued and stop within a few seconds."""
        for recorder in self._recorders:
            recorder.close()


class _Closable(SearchRecorder, Protocol):
    """A recorder that can be stopped."""

    def close(self) -> None:
        """Stop within a few seconds."""


def _is_address(text: str) -> bool:
    try:
        address = urlsplit(text)
        address.port  # noqa: B018 - reading it checks it
    except ValueError:
        return False
    return address.scheme in ("http", "https") and bool(address.hostname)


def _read_api_key(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise TelemetrySettingsError(f"telemetry_api_key: got {error}, want a key") from error

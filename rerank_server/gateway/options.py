"""What a search may say of its reranking: in `ext.rerank`, the header, or a rule of its index."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rerank_server.contract.errors import nearest
from rerank_server.gateway.errors import OptionsError
from rerank_server.page import MAX_CANDIDATES, MAX_EVENTS, ShopperHistory

_MAX_TEXT = 256
_MAX_QUERY = 1_024
_MAX_SIGNALS = 64
_MAX_TIMEOUT_MS = 60_000
_EVENT_KEYS = ("product_id", "time", "kind", "place", "discounted")
_KINDS = ("impression", "click", "cart", "purchase")


@dataclass(frozen=True, slots=True)
class RerankOptions:
    """How one search is reranked.

    Attributes:
        window: How many of the first candidates are reranked, 1 to 1,000.
        id_field: Field of the product id; `_id` is the document's own.
        category_field: Field of the product's category, for telemetry; empty reads none.
        signals: Signal of the bundle -> field of the document that holds its number.
        query: What the shopper typed; None takes it from the search itself.
        surface: Where the page is shown.
        shopper_id: Who sees it, as the shop calls them; in no log.
        session_id: Of which visit; in no log.
        place: Store or market.
        time: Unix seconds at which the page is shown; None means now.
        category: Category of candidates that the product store does not hold.
        history: What the shopper did; None has it read from the stream of events.
        objective_weights: Replaces the bundle's weights when not empty.
        timeout_ms: Longest time for the reranker; None takes the gateway's.
        query_id: The caller's id of the search; None makes one.
        application: What the shop calls its application.
        experiment: Labels for telemetry.
    """

    window: int = 100
    id_field: str = "_id"
    category_field: str = ""
    signals: Mapping[str, str] = field(default_factory=dict)
    query: str | None = None
    surface: str = ""
    shopper_id: str | None = field(default=None, repr=False)
    session_id: str | None = field(default=None, repr=False)
    place: str | None = None
    time: int | None = None
    category: str | None = None
    history: ShopperHistory | None = None
    objective_weights: Mapping[str, float] = field(default_factory=dict)
    timeout_ms: int | None = None
    query_id: str | None = None
    application: str = ""
    experiment: Mapping[str, str] = field(default_factory=dict)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields to ask Elasticsearch for, each once."""
        wanted = (self.id_field, self.category_field, *self.signals.values())
        return tuple(dict.fromkeys(name for name in wanted if name not in {"", "_id"}))

    @property
    def fingerprint(self) -> str:
        """What two pages of one search of one shopper have in common."""
        past = self.history or ShopperHistory()
        parts = (
            *(self.window, self.id_field, self.signals, self.query, self.surface, self.place),
            *(self.category, self.objective_weights, self.shopper_id, self.session_id),
            *(list(past.product_ids), np.asarray(past.times).tolist(), list(past.kinds)),
        )
        return repr(parts)


def read_options(where: str, said: Mapping[str, Any], defaults: RerankOptions) -> RerankOptions:
    """Return `defaults` with what `said` says instead.

    Args:
        where: What to call it in an error, for example "ext.rerank".
        said: Option -> JSON value.
        defaults: The rest.

    Raises:
        OptionsError: On an unknown name or a value out of its range.
    """
    values = {}
    for name, value in said.items():
        if name not in _READERS:
            known = ", ".join(_READERS)
            raise OptionsError(
                f"{where}.{name}: got an unknown name, want one of {known}{nearest(name, _READERS)}"
            )
        values[name] = _READERS[name](f"{where}.{name}", value)
    return replace(defaults, **values)


def _text(where: str, value: Any, longest: int = _MAX_TEXT) -> str:  # noqa: ANN401 - JSON
    if not isinstance(value, str) or len(value.encode(errors="replace")) > longest:
        raise OptionsError(f"{where}: got {_shown(value)}, want a text of at most {longest} bytes")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise OptionsError(f"{where}: got half of a surrogate pair, want text that UTF-8 can carry")
    return value


def _name_of_person(where: str, value: Any) -> str:  # noqa: ANN401 - JSON
    """Read an id that no error may repeat: errors reach log and telemetry."""
    if not isinstance(value, str):
        kind = type(value).__name__
        raise OptionsError(f"{where}: got a value of type {kind}, want a text")
    size = len(value.encode(errors="replace"))
    if size > _MAX_TEXT:
        raise OptionsError(f"{where}: got {size} bytes, want at most {_MAX_TEXT}")
    return _text(where, value)


def _field(where: str, value: Any) -> str:  # noqa: ANN401 - JSON
    name = _text(where, value)
    if not name or "*" in name:
        raise OptionsError(f"{where}: got {name!r}, want the name of one field")
    return name


def _query(where: str, value: Any) -> str:  # noqa: ANN401 - JSON
    return _text(where, value, _MAX_QUERY)


def _whole(low: int, high: int) -> Callable[[str, Any], int]:
    def read(where: str, value: Any) -> int:  # noqa: ANN401 - JSON
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise OptionsError(f"{where}: got {_shown(value)}, want {low} to {high}")
        return value

    return read


def _texts(where: str, value: Any) -> dict[str, str]:  # noqa: ANN401 - JSON
    if not isinstance(value, Mapping) or len(value) > _MAX_SIGNALS:
        raise OptionsError(
            f"{where}: got {_shown(value)}, want an object of at most {_MAX_SIGNALS} texts"
        )
    return {_text(where, name): _text(f"{where}.{name}", item) for name, item in value.items()}


def _weights(where: str, value: Any) -> dict[str, float]:  # noqa: ANN401 - JSON
    if not isinstance(value, Mapping):
        raise OptionsError(f"{where}: got {_shown(value)}, want an object of numbers")
    for name, weight in value.items():
        if not _is_number(weight):
            raise OptionsError(f"{where}.{name}: got {_shown(weight)}, want a finite number")
    return {_text(where, name): float(weight) for name, weight in value.items()}


def _history(where: str, value: Any) -> ShopperHistory:  # noqa: ANN401 - JSON
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > MAX_EVENTS:
        raise OptionsError(f"{where}: got {_shown(value)}, want at most {MAX_EVENTS} events")
    for number, event in enumerate(value):
        _check_event(f"{where}[{number}]", event)
    return ShopperHistory(
        product_ids=[event["product_id"] for event in value],
        times=[event["time"] for event in value],
        kinds=[event.get("kind", "purchase") for event in value],
        places=[event.get("place", "") for event in value],
        discounted=[event.get("discounted", False) for event in value],
    )


def _check_event(where: str, event: Any) -> None:  # noqa: ANN401 - JSON
    if not isinstance(event, Mapping) or not {"product_id", "time"} <= event.keys():
        raise OptionsError(f"{where}: got {_shown(event)}, want product_id and time")
    for name in event:
        if name not in _EVENT_KEYS:
            raise OptionsError(
                f"{where}.{name}: got an unknown name, want one of {', '.join(_EVENT_KEYS)}"
            )
    if not _text(f"{where}.product_id", event["product_id"]):
        raise OptionsError(f"{where}.product_id: got an empty text, want an id")
    _whole(0, 100_000_000_000 - 1)(f"{where}.time", event["time"])
    _text(f"{where}.place", event.get("place", ""))
    if event.get("kind", "purchase") not in _KINDS:
        raise OptionsError(
            f"{where}.kind: got {_shown(event['kind'])}, want one of {', '.join(_KINDS)}"
        )
    if not isinstance(event.get("discounted", False), bool):
        raise OptionsError(f"{where}.discounted: got {_shown(event['discounted'])}, want a bool")


def _is_number(value: Any) -> bool:  # noqa: ANN401 - JSON
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:  # noqa: ANN401 - JSON
    """Return a value for an error: its start only, and no content of what may be personal."""
    if isinstance(value, Mapping):
        return f"an object of {len(value)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."  # noqa: PLR2004 - a line's worth


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "window": _whole(1, MAX_CANDIDATES),
    "id_field": _field,
    "category_field": _field,
    "signals": _texts,
    "query": _query,
    "surface": _text,
    "shopper_id": _name_of_person,
    "session_id": _name_of_person,
    "place": _text,
    "time": _whole(0, 100_000_000_000 - 1),
    "category": _text,
    "history": _history,
    "objective_weights": _weights,
    "timeout_ms": _whole(1, _MAX_TIMEOUT_MS),
    "query_id": _text,
    "application": _text,
    "experiment": _texts,
}

"""From the text of a policy file, TOML, to rules; every key and value is checked."""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

from rerank_server.contract.errors import nearest
from rerank_server.page import MAX_CANDIDATES, MAX_ID_BYTES, MAX_NAME_BYTES, MAX_QUERY_BYTES
from rerank_server.policy_conflicts import check_conflicts
from rerank_server.policy_rules import (
    BoostRule,
    BuryRule,
    DiversityRule,
    ExposureRule,
    HideRule,
    PinRule,
    PolicyError,
    PolicyRules,
    RelevanceFloorRule,
    Rule,
    Selector,
    When,
    normal_query,
)

FORMAT_VERSION = 1
MAX_RULES = 1_000
MAX_VALUES = 100_000
MAX_PINNED_PRODUCTS = 100
# Placing candidates under caps and floors, and choosing unlike ones, is a step per place.
MAX_PLACES = 100
MAX_CHOOSE_FROM = 200
DEFAULT_CHOOSE_FROM = 100
_WHEN = ("name", "surfaces", "queries", "from", "until")
_SELECTOR = ("products", "brands", "categories", "nodes", "attributes")
_FACTOR = (1e-6, 1e6)
_SHORT = 60  # characters of a wrong value in a message

_Table: TypeAlias = Mapping[str, Any]


def parse_policy(text: str) -> PolicyRules:
    """Return the rules of a policy file, none for an empty one.

    Raises:
        PolicyError: When it is no TOML, a key is unknown or a value out of range, or rules
            contradict each other.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOML's error is a ValueError
        raise PolicyError(f"policy: got {error}, want TOML") from error
    version = document.pop("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise PolicyError(f"format_version: got {version!r}, want {FORMAT_VERSION}")
    _refuse_unknown("policy", document, ("format_version", *_KINDS))
    found: dict[str, tuple[Rule, ...]] = {}
    for kind, (field, read, keys) in _KINDS.items():
        found[field] = tuple(_read_rules(kind, document.get(kind, []), read, keys))
    rules = PolicyRules(**found)  # type: ignore[arg-type]  # each reader makes its own kind
    if rules.size > MAX_RULES:
        raise PolicyError(f"policy: got {rules.size} rules, want at most {MAX_RULES}")
    check_conflicts(rules)
    return rules


def _read_rules(
    kind: str, tables: object, read: Callable[[_RuleTable], Rule], keys: tuple[str, ...]
) -> Iterable[Rule]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise PolicyError(f"{kind}: got {_short(tables)}, want tables that begin with [[{kind}]]")
    for number, table in enumerate(tables, start=1):
        name = table.get("name")
        if not isinstance(name, str) or not 1 <= _byte_size(name) <= MAX_NAME_BYTES:
            raise PolicyError(
                f"{kind} {number}: got name {_short(name)}, want a text of 1 to {MAX_NAME_BYTES}"
                " bytes"
            )
        what = f"{kind} {name!r}"
        _refuse_unknown(what, table, (*_WHEN, *keys))
        yield read(_RuleTable(what, table))


class _RuleTable:
    """One table of the file, read key by key."""

    def __init__(self, what: str, table: _Table) -> None:
        self.what = what
        self.table = table
        self.name: str = table["name"]

    def when(self) -> When:
        """Return the conditions of time, surface and query."""
        starts, ends = self._time("from"), self._time("until")
        if starts is not None and ends is not None and starts >= ends:
            raise PolicyError(
                f"{self.what}: got from {self.table['from']} until {self.table['until']},"
                " want from before until"
            )
        queries = self._texts("queries", self.table.get("queries"), MAX_QUERY_BYTES)
        return When(
            surfaces=self._texts("surfaces", self.table.get("surfaces"), MAX_NAME_BYTES),
            queries=tuple(map(normal_query, queries)),
            starts=starts,
            ends=ends,
        )

    def selector(self, *, required: bool = True) -> Selector:
        """Return what the rule acts on."""
        attributes = self.table.get("attributes", {})
        if not isinstance(attributes, dict):
            raise PolicyError(
                f"{self.what}: attributes: got {_short(attributes)}, want a table such as"
                ' { size = ["1 l"] }'
            )
        values = {
            name: self._texts(f"attributes.{name}", given, MAX_NAME_BYTES)
            for name, given in attributes.items()
        }
        brands = self._texts("brands", self.table.get("brands"), MAX_NAME_BYTES)
        if brands and "brand" in values:
            raise PolicyError(f"{self.what}: got brands and attributes.brand, want one of them")
        if brands:
            values["brand"] = brands
        selector = Selector(
            products=self._texts("products", self.table.get("products"), MAX_ID_BYTES),
            categories=self._texts("categories", self.table.get("categories"), MAX_NAME_BYTES),
            nodes=self._texts("nodes", self.table.get("nodes"), MAX_NAME_BYTES),
            attributes=values,
        )
        if required and not selector.conditions():
            raise PolicyError(f"{self.what}: got nothing to act on, want {', '.join(_SELECTOR)}")
        return selector

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text that is not empty."""
        value = self.table.get(key, default)
        if not isinstance(value, str) or (not value and default is None):
            raise PolicyError(f"{self.what}: {key}: got {_short(value)}, want a text")
        return value

    def whole(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """Return a whole number within the bounds."""
        value = self.table.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise PolicyError(
                f"{self.what}: {key}: got {_short(value)}, want a whole number from {low} to {high}"
            )
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """Return a number within the bounds."""
        value = self.table.get(key, default)
        wrong = not isinstance(value, int | float) or isinstance(value, bool)
        if wrong or not low <= value <= high:  # not a number is not within bounds either
            raise PolicyError(
                f"{self.what}: {key}: got {_short(value)}, want a number from {low:g} to {high:g}"
            )
        return float(value)

    def _time(self, key: str) -> int | None:
        value = self.table.get(key)
        if value is None:
            return None
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise PolicyError(
                f"{self.what}: {key}: got {_short(value)}, want a time with its zone, such as"
                " 2026-11-27T00:00:00Z"
            )
        try:
            return math.ceil(value.timestamp())
        except OverflowError as error:
            raise PolicyError(f"{self.what}: {key}: got {value}, want a later time") from error

    def _texts(self, key: str, value: object, limit: int) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_VALUES:
            raise PolicyError(
                f"{self.what}: {key}: got {_short(value)}, want a list of 1 to {MAX_VALUES} texts"
            )
        for text in value:
            if not isinstance(text, str) or not 1 <= _byte_size(text) <= limit:
                raise PolicyError(
                    f"{self.what}: {key}: got {_short(text)}, want texts of 1 to {limit} bytes"
                )
        if len(set(value)) < len(value):
            twice = Counter(value).most_common(1)[0][0]
            raise PolicyError(f"{self.what}: {key}: got {_short(twice)} twice, want each once")
        return tuple(value)


def _read_pin(table: _RuleTable) -> PinRule:
    rule = PinRule(
        name=table.name,
        when=table.when(),
        selector=table.selector(),
        position=table.whole("position", 1, MAX_CANDIDATES),
    )
    count = len(rule.positions)
    if count > MAX_PINNED_PRODUCTS or rule.positions[-1] > MAX_CANDIDATES:
        raise PolicyError(
            f"{table.what}: got {count} products from position {rule.position}, want at most"
            f" {MAX_PINNED_PRODUCTS}, the last at {MAX_CANDIDATES} or before"
        )
    return rule


def _read_boost(table: _RuleTable) -> BoostRule:
    if "multiply" not in table.table and "add" not in table.table:
        raise PolicyError(f"{table.what}: got neither multiply nor add, want one or both")
    return BoostRule(
        name=table.name,
        when=table.when(),
        selector=table.selector(),
        multiply=table.number("multiply", *_FACTOR, 1.0),
        add=table.number("add", -_FACTOR[1], _FACTOR[1], 0.0),
    )


def _read_exposure(table: _RuleTable) -> ExposureRule:
    given = table.table
    each = table.text("each", "")
    for bound in ("min", "max"):
        if f"{bound}_count" in given and f"{bound}_share" in given:
            raise PolicyError(
                f"{table.what}: got {bound}_count and {bound}_share, want one of them"
            )
    has_floor = "min_count" in given or "min_share" in given
    if not has_floor and "max_count" not in given and "max_share" not in given:
        raise PolicyError(
            f"{table.what}: got no bound, want min_count, min_share, max_count or max_share"
        )
    if each and has_floor:
        raise PolicyError(f"{table.what}: got a floor for each {each}, want a cap only")
    within_top = table.whole("within_top", 1, MAX_PLACES)

    def count(key: str, low: int) -> int | None:
        return table.whole(key, low, within_top) if key in given else None

    def share(key: str) -> float | None:
        return table.number(key, 1e-3, 1.0) if key in given else None

    rule = ExposureRule(
        name=table.name,
        when=table.when(),
        selector=table.selector(required=not each),
        within_top=within_top,
        each=each,
        min_count=count("min_count", 1),
        min_share=share("min_share"),
        max_count=count("max_count", 0),
        max_share=share("max_share"),
    )
    floor, cap = rule.floor(within_top), rule.cap(within_top)
    if cap is not None and floor > cap:
        raise PolicyError(f"{table.what}: got a floor of {floor} above its cap of {cap}")
    return rule


def _read_diversity(table: _RuleTable) -> DiversityRule:
    method = table.text("method")
    if method not in ("mmr", "dpp"):
        raise PolicyError(
            f"{table.what}: method: got {_short(method)}, want mmr or dpp"
            f"{nearest(method, ('mmr', 'dpp'))}"
        )
    within_top = table.whole("within_top", 1, MAX_PLACES)
    default = max(within_top, DEFAULT_CHOOSE_FROM)
    # at 1 the kernel of a DPP would divide by zero, and there is nothing to spread
    high = 1.0 if method == "mmr" else 0.99
    return DiversityRule(
        name=table.name,
        when=table.when(),
        method=method,  # type: ignore[arg-type]  # checked above
        relevance_weight=table.number("relevance_weight", 0.0, high),
        within_top=within_top,
        choose_from=table.whole("choose_from", within_top, MAX_CHOOSE_FROM, default),
    )


def _read_relevance_floor(table: _RuleTable) -> RelevanceFloorRule:
    return RelevanceFloorRule(
        name=table.name,
        when=table.when(),
        objective=table.text("objective"),
        probability=table.number("probability", 0.0, 1.0),
    )


def _read_hide(table: _RuleTable) -> HideRule:
    return HideRule(name=table.name, when=table.when(), selector=table.selector())


def _read_bury(table: _RuleTable) -> BuryRule:
    return BuryRule(name=table.name, when=table.when(), selector=table.selector())


_BOUNDS = ("min_count", "min_share", "max_count", "max_share")
# the name of a table, the field of its rules, what reads one, its keys beside _WHEN
_KINDS: dict[str, tuple[str, Callable[[_RuleTable], Rule], tuple[str, ...]]] = {
    "pin": ("pins", _read_pin, (*_SELECTOR, "position")),
    "hide": ("hides", _read_hide, _SELECTOR),
    "boost": ("boosts", _read_boost, (*_SELECTOR, "multiply", "add")),
    "bury": ("buries", _read_bury, _SELECTOR),
    "exposure": ("exposures", _read_exposure, (*_SELECTOR, "each", "within_top", *_BOUNDS)),
    "diversity": (
        "diversities",
        _read_diversity,
        ("method", "relevance_weight", "within_top", "choose_from"),
    ),
    "relevance_floor": (
        "relevance_floors",
        _read_relevance_floor,
        ("objective", "probability"),
    ),
}


def _refuse_unknown(what: str, table: _Table, known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise PolicyError(
                f"{what}: got unknown key {_short(key)}, want some of {', '.join(known)}"
                f"{nearest(key, known)}"
            )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."


def _byte_size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))

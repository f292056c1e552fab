"""The rules of a policy as plain values: what each acts on, when, and what it does."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

from rerank_server.contract.errors import RerankError

Method: TypeAlias = Literal["mmr", "dpp"]


class PolicyError(RerankError):
    """A policy that cannot be read, contradicts itself, or names what the bundle lacks."""


@dataclass(frozen=True, slots=True)
class When:
    """The pages that a rule is in force for; empty conditions hold for every page.

    Attributes:
        surfaces: Surfaces of the bundle.
        queries: Whole queries as `normal_query` writes them.
        starts: Unix seconds of the first moment in force; None is always so far.
        ends: Unix seconds of the first moment no longer in force; None is for ever.
    """

    surfaces: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()
    starts: int | None = None
    ends: int | None = None

    def holds(self, surface: str, time: int, query: str) -> bool:
        """Return whether a page has the rule in force; `query` as `normal_query` writes it."""
        return (
            (not self.surfaces or surface in self.surfaces)
            and (not self.queries or query in self.queries)
            and (self.starts is None or self.starts <= time)
            and (self.ends is None or time < self.ends)
        )

    def overlaps(self, other: When) -> bool:
        """Return whether some page can have both rules in force."""
        starts = max(_or(self.starts, -math.inf), _or(other.starts, -math.inf))
        ends = min(_or(self.ends, math.inf), _or(other.ends, math.inf))
        return (
            starts < ends
            and _meet(self.surfaces, other.surfaces)
            and _meet(self.queries, other.queries)
        )


@dataclass(frozen=True, slots=True)
class Selector:
    """The candidates that a rule acts on: one of the values of every kind that is not empty.

    Attributes:
        products: Product ids, in the product store or not.
        categories: Categories of the bundle.
        nodes: Nodes of the category path, at any level.
        attributes: Values by attribute of the bundle's schema; `brand` is one of them.
    """

    products: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def conditions(self) -> dict[str, frozenset[str]]:
        """Return the values by kind, kinds without values left out."""
        named = {"products": self.products, "categories": self.categories, "nodes": self.nodes}
        named |= {f"attributes.{name}": values for name, values in self.attributes.items()}
        return {kind: frozenset(values) for kind, values in named.items() if values}

    def covers(self, other: Selector) -> bool:
        """Return whether whatever `other` selects is surely selected by this one as well."""
        theirs = other.conditions()
        return all(
            kind in theirs and theirs[kind] <= values for kind, values in self.conditions().items()
        )

    def excludes(self, other: Selector) -> bool:
        """Return whether surely no candidate is selected by both.

        Values of one kind are alternatives, but a category path has several nodes.
        """
        theirs = other.conditions()
        return any(
            kind != "nodes" and kind in theirs and not theirs[kind] & values
            for kind, values in self.conditions().items()
        )


@dataclass(frozen=True, slots=True)
class PinRule:
    """Puts products at `position` and the ones after it, or the best match there.

    Attributes:
        name: Unique among all rules.
        when: Where it is in force.
        selector: Products in the order of their positions; of any other selector the best
            candidate is pinned.
        position: The first place, from 1.
    """

    name: str
    when: When
    selector: Selector
    position: int

    @property
    def is_by_product(self) -> bool:
        """Whether each product has a position of its own."""
        return list(self.selector.conditions()) == ["products"]

    @property
    def positions(self) -> range:
        """The positions that it may fill."""
        count = len(self.selector.products) if self.is_by_product else 1
        return range(self.position, self.position + count)


@dataclass(frozen=True, slots=True)
class HideRule:
    """Leaves candidates out of the page."""

    name: str
    when: When
    selector: Selector


@dataclass(frozen=True, slots=True)
class BuryRule:
    """Puts candidates at the end of the page."""

    name: str
    when: When
    selector: Selector


@dataclass(frozen=True, slots=True)
class BoostRule:
    """Changes the score: all factors first, then all additions.

    Attributes:
        name: Unique among all rules.
        when: Where it is in force.
        selector: What it acts on.
        multiply: Factor > 0; above 1 lifts, whatever the sign of the score.
        add: Added to the score.
    """

    name: str
    when: When
    selector: Selector
    multiply: float = 1.0
    add: float = 0.0


@dataclass(frozen=True, slots=True)
class ExposureRule:
    """Bounds how many of the first candidates are of a group; a floor, a cap or both.

    Attributes:
        name: Unique among all rules.
        when: Where it is in force.
        selector: The group; all candidates when empty.
        each: Name of a column (`category`, an attribute, a level): the cap holds for each
            value of it on its own; empty when the selector is the group.
        within_top: How many of the first places are meant.
        min_count: Floor as a number of candidates.
        min_share: Floor as a share of the places, rounded up.
        max_count: Cap as a number of candidates.
        max_share: Cap as a share of the places, rounded down but at least 1.
    """

    name: str
    when: When
    selector: Selector
    within_top: int
    each: str = ""
    min_count: int | None = None
    min_share: float | None = None
    max_count: int | None = None
    max_share: float | None = None

    def floor(self, places: int) -> int:
        """Return the fewest of the group among the first `places`; 0 without a floor."""
        if self.min_count is not None:
            return self.min_count
        # the small number keeps .1 * 30 from becoming 4
        return 0 if self.min_share is None else math.ceil(self.min_share * places - 1e-9)

    def cap(self, places: int) -> int | None:
        """Return the most of the group among the first `places`; None without a cap."""
        if self.max_count is not None:
            return self.max_count
        if self.max_share is None:
            return None
        return max(1, math.floor(self.max_share * places + 1e-9))


@dataclass(frozen=True, slots=True)
class DiversityRule:
    """Spreads the first places over unlike products.

    Attributes:
        name: Unique among all rules.
        when: Where it is in force.
        method: `mmr` or `dpp`, see `diversity.py`.
        relevance_weight: 1 is the order by score, towards 0 unlikeness counts more.
        within_top: How many places are filled this way.
        choose_from: How many of the best candidates they are filled from.
    """

    name: str
    when: When
    method: Method
    relevance_weight: float
    within_top: int
    choose_from: int


@dataclass(frozen=True, slots=True)
class RelevanceFloorRule:
    """Puts candidates behind the others whose probability of an objective is below a floor."""

    name: str
    when: When
    objective: str
    probability: float


Rule: TypeAlias = (
    PinRule | HideRule | BuryRule | BoostRule | ExposureRule | DiversityRule | RelevanceFloorRule
)


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """Every rule of one policy, by kind, each kind in the order of its file."""

    pins: tuple[PinRule, ...] = ()
    hides: tuple[HideRule, ...] = ()
    boosts: tuple[BoostRule, ...] = ()
    buries: tuple[BuryRule, ...] = ()
    exposures: tuple[ExposureRule, ...] = ()
    diversities: tuple[DiversityRule, ...] = ()
    relevance_floors: tuple[RelevanceFloorRule, ...] = ()

    def __iter__(self) -> Iterator[Rule]:
        """Yield the rules by kind."""
        yield from self.pins
        yield from self.hides
        yield from self.boosts
        yield from self.buries
        yield from self.exposures
        yield from self.diversities
        yield from self.relevance_floors

    @property
    def size(self) -> int:
        """The number of rules."""
        return sum(1 for _ in self)

    @property
    def version(self) -> str:
        """The SHA-256 of what the rules say, 64 hexadecimal digits.

        Comments, blanks and the order of keys in the file do not change it.
        """
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def normal_query(query: str) -> str:
    """Return the query without case and without spare blanks, as rules compare it."""
    return " ".join(query.casefold().split())


def _or(value: int | None, default: float) -> float:
    return default if value is None else value


def _meet(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    return not first or not second or not set(first).isdisjoint(second)

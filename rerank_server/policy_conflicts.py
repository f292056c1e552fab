"""Rules that contradict each other, found before they serve and named."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations

from rerank_server.policy_rules import (
    DiversityRule,
    ExposureRule,
    HideRule,
    PinRule,
    PolicyError,
    PolicyRules,
    RelevanceFloorRule,
)


def check_conflicts(rules: PolicyRules) -> None:
    """Refuse rules that cannot all hold on some page.

    Raises:
        PolicyError: With the names of the rules.
    """
    _check_names(rule.name for rule in rules)
    _check_pins(rules.pins)
    _check_hidden_pins(rules.pins, rules.hides)
    _check_floors(rules.exposures)
    _check_single("diversity", rules.diversities)
    by_objective: dict[str, list[RelevanceFloorRule]] = defaultdict(list)
    for rule in rules.relevance_floors:
        by_objective[rule.objective].append(rule)
    for objective, floors in by_objective.items():
        _check_single(f"relevance_floor of {objective!r}", floors)


def _check_names(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise PolicyError(f"rule {name!r}: got the name twice, want each name once")
        seen.add(name)


def _check_pins(pins: Sequence[PinRule]) -> None:
    by_product: dict[str, list[PinRule]] = defaultdict(list)
    by_position: dict[int, list[PinRule]] = defaultdict(list)
    for rule in pins:
        for product in rule.selector.products:
            for other in by_product[product]:
                if rule.when.overlaps(other.when):
                    raise PolicyError(
                        f"pin {rule.name!r}: got product {product!r}, which {other.name!r} pins"
                        " at the same time, want one pin for a product"
                    )
            by_product[product].append(rule)
        for position in rule.positions:
            for other in by_position[position]:
                if rule.when.overlaps(other.when):
                    raise PolicyError(
                        f"pin {rule.name!r}: got position {position}, which {other.name!r} fills"
                        " at the same time, want one pin for a position"
                    )
            by_position[position].append(rule)


def _check_hidden_pins(pins: Sequence[PinRule], hides: Sequence[HideRule]) -> None:
    for hide in hides:
        hidden = frozenset(hide.selector.products)
        only_products = list(hide.selector.conditions()) == ["products"]
        for pin in pins:
            same = only_products and not hidden.isdisjoint(pin.selector.products)
            if (same or hide.selector.covers(pin.selector)) and pin.when.overlaps(hide.when):
                what = sorted(hidden.intersection(pin.selector.products)) or "the same candidates"
                raise PolicyError(
                    f"pin {pin.name!r}: got {what}, which {hide.name!r} hides at the same time,"
                    " want either"
                )


def _check_floors(exposures: Sequence[ExposureRule]) -> None:
    floors = [rule for rule in exposures if rule.floor(rule.within_top)]
    floors.sort(key=lambda rule: -rule.floor(rule.within_top))
    for anchor in floors:
        within = [rule for rule in floors if rule.within_top <= anchor.within_top]
        _check_demand(_disjoint(anchor, within), anchor.within_top, "places")
    for cap in exposures:
        allowed = cap.cap(cap.within_top)
        if allowed is None:
            continue
        for anchor in floors:
            if not cap.when.overlaps(anchor.when) or not _bounds(cap, anchor):
                continue
            # a cap of each brand lets a floor of three brands have three times as many
            groups = len(_values(cap.each, anchor)) if cap.each else 1
            within = [
                rule
                for rule in floors
                if rule.within_top <= anchor.within_top
                and cap.when.overlaps(rule.when)
                and _bounds(cap, rule)
                and (not cap.each or _values(cap.each, rule) <= _values(cap.each, anchor))
            ]
            room = groups * allowed + max(0, anchor.within_top - cap.within_top)
            _check_demand(_disjoint(anchor, within), room, f"under the cap of {cap.name!r}")


def _bounds(cap: ExposureRule, floor: ExposureRule) -> bool:
    """Return whether every candidate of the floor's group counts for the cap."""
    if not cap.selector.covers(floor.selector):
        return False
    return not cap.each or bool(_values(cap.each, floor))


def _values(each: str, floor: ExposureRule) -> frozenset[str]:
    kind = "categories" if each == "category" else f"attributes.{each}"
    return floor.selector.conditions().get(kind, frozenset())


def _disjoint(anchor: ExposureRule, floors: Sequence[ExposureRule]) -> list[ExposureRule]:
    """Return floors, `anchor` first, that hold at one time and share no candidate."""
    chosen = [anchor]
    for rule in floors:
        if rule is not anchor and all(
            rule.when.overlaps(other.when) and rule.selector.excludes(other.selector)
            for other in chosen
        ):
            chosen.append(rule)
    return chosen


def _check_demand(floors: Sequence[ExposureRule], room: int, where: str) -> None:
    wanted = sum(rule.floor(rule.within_top) for rule in floors)
    if wanted > room:
        names = ", ".join(repr(rule.name) for rule in floors)
        raise PolicyError(
            f"exposure {names}: got floors of {wanted} in the top {floors[0].within_top},"
            f" want at most {room} {where}"
        )


def _check_single(what: str, rules: Sequence[DiversityRule | RelevanceFloorRule]) -> None:
    first: DiversityRule | RelevanceFloorRule
    for first, second in combinations(rules, 2):
        if first.when.overlaps(second.when):
            raise PolicyError(
                f"{what}: got {first.name!r} and {second.name!r} at the same time, want one"
            )

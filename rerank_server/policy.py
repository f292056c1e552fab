"""What happens after the scores: objectives become one score, and score and rules an order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from rerank_server.contract.page import Flags, Floats, Rows
from rerank_server.contract.schema import Schema
from rerank_server.contract.vocabulary import Vocabulary
from rerank_server.diversity import dpp_order, mmr_order, unit_vectors
from rerank_server.exposure import NO_GROUP, Limit, place_candidates
from rerank_server.policy_match import (
    Bits,
    Matched,
    Names,
    PolicyPage,
    RuleMatcher,
    column_of,
    known_index,
)
from rerank_server.policy_rules import (
    BoostRule,
    DiversityRule,
    PinRule,
    PolicyRules,
    RelevanceFloorRule,
    Selector,
    normal_query,
)
from rerank_server.policy_trace import PolicyTrace, TraceWriter

# Many boosts of one candidate multiply; beyond this the score would leave float32.
_MAX_LOG_FACTOR = float(np.log(1e12))
_LARGEST_SCORE = float(np.finfo(np.float32).max)
# Where a candidate stands whatever its score.
_NORMAL, _BELOW_FLOOR, _BURIED = range(3)

_Placed = TypeVar("_Placed", DiversityRule, RelevanceFloorRule)


def objective_weights(names: tuple[str, ...], weights: Mapping[str, float]) -> Floats:
    """Return the weights in the order of `names`, shape (objectives,); left out means 0."""
    with np.errstate(over="ignore"):
        return np.array([weights.get(name, 0.0) for name in names]).astype(np.float32)


def combine_objectives(probabilities: Floats, weights: Floats) -> Floats:
    """Return the scores, shape (..., candidates): sum over objectives of weight * probability.

    Args:
        probabilities: Shape (..., candidates, objectives).
        weights: Shape (objectives,).
    """
    with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what is not finite
        scores: Floats = (probabilities * weights).sum(axis=-1, dtype=np.float32)
    return scores


def order_by_score(scores: Floats, top_k: int | None) -> Rows:
    """Return retrieval ranks, best score first, at most `top_k`; ties keep retrieval order."""
    return np.argsort(-scores, kind="stable")[:top_k].astype(np.int32)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a policy made of one page.

    Attributes:
        ranks: Retrieval ranks in the order to show, the hidden left out, at most top_k.
        scores: Scores after boosts, by retrieval rank, shape (candidates,).
        trace: Which rule moved what; None unless asked for.
    """

    ranks: Rows
    scores: Floats
    trace: PolicyTrace | None = None


class Policy:
    """Rules compiled for one bundle; may be shared by threads.

    The steps, each on the outcome of the one before: hide; boost; sink what is below the
    relevance floor, and behind it what is buried; pin; spread the rest by diversity; fill the
    places between the pins under floors and caps. Equal scores keep retrieval order throughout,
    and the same page gives the same answer.
    """

    def __init__(self, rules: PolicyRules, schema: Schema, vocabulary: Vocabulary) -> None:
        """Compile `rules`.

        Raises:
            PolicyError: When a rule names what the bundle does not know.
        """
        names = Names(schema, vocabulary)
        self.version = rules.version
        self.rules = rules
        self._surfaces = schema.surfaces
        self._rule_names = [rule.name for rule in rules]
        self._pins = list(_single_pins(rules.pins))
        groups: list[Sequence[Matched]] = [
            rules.boosts,
            rules.buries,
            rules.hides,
            self._pins,
            rules.exposures,
        ]
        bits, slices = _layout(groups)
        self._boosts, self._buries, self._hides, self._pin_bytes, self._exposures = slices
        self._matcher = RuleMatcher([rule for group in groups for rule in group], bits, names)
        self._boost_table = _boost_table(rules.boosts)
        self._each = [
            column_of(rule.each, names, f"exposure {rule.name!r}: each") if rule.each else None
            for rule in rules.exposures
        ]
        self._objectives = {
            rule.name: known_index(
                rule.objective, names.objectives, f"relevance_floor {rule.name!r}: objective"
            )
            for rule in rules.relevance_floors
        }
        for rule in rules:
            for surface in rule.when.surfaces:
                known_index(surface, names.surfaces, f"rule {rule.name!r}: surfaces")

    def apply(
        self,
        page: PolicyPage,
        scores: Floats,
        probabilities: Floats,
        *,
        top_k: int | None = None,
        trace: bool = False,
    ) -> Ruling:
        """Return the order of a page.

        Args:
            page: What the rules see.
            scores: Finite, shape (candidates,).
            probabilities: Shape (candidates, objectives).
            top_k: How many to return; None means all that are not hidden.
            trace: Whether to say which rule moved what.
        """
        writer = TraceWriter() if trace else None
        in_force = self._matcher.in_force(page)
        bits = self._matcher.match(page, in_force)
        boosted = self._boosted(bits, scores, writer)
        tiers = self._tiers(page, bits, probabilities, writer)
        order = order_by_score(boosted, None)
        if tiers is not None:
            order = order[np.argsort(tiers[order], kind="stable")]
        hidden = _any_bit(bits, self._hides)
        if hidden.any():
            order = order[~hidden[order]]
            self._note(writer, bits, self._hides, self.rules.hides)
        pinned = self._pinned(bits, order, writer)
        queue = order
        if pinned:
            free = np.ones(page.size, np.bool_)
            free[list(pinned.values())] = False
            queue = order[free[order]]
        ends = len(queue) if tiers is None else int(np.searchsorted(tiers[queue], _BELOW_FLOOR))
        queue, sunk = queue[:ends], queue[ends:]
        queue = self._spread(page, queue, boosted, writer)
        limits = self._limits(page, bits, in_force, len(queue) + len(pinned))
        ranks = place_candidates(queue, sunk, pinned, limits, writer)
        told = None
        if writer is not None:
            by_score = order_by_score(scores, None)
            told = writer.trace(self.version, self._rule_names, by_score, ranks)
        return Ruling(ranks[:top_k], boosted, told)

    def hidden(self, page: PolicyPage) -> Flags:
        """Return which candidates the policy leaves out, shape (candidates,)."""
        if not self.rules.hides:
            return np.zeros(page.size, np.bool_)
        bits = self._matcher.match(page, self._matcher.in_force(page))
        return _any_bit(bits, self._hides)

    def _boosted(self, bits: Bits, scores: Floats, writer: TraceWriter | None) -> Floats:
        own = bits[self._boosts]
        used = np.flatnonzero(own.any(axis=1))
        if used.shape[0] == 0:
            return scores
        change = self._boost_table[used[:, np.newaxis], own[used]].sum(axis=0)
        factor = np.exp(np.clip(change.real, -_MAX_LOG_FACTOR, _MAX_LOG_FACTOR))
        wide = scores.astype(np.float64)
        # a factor above 1 lifts a score below 0 as well
        wide = np.where(wide >= 0, wide * factor, wide / factor) + change.imag
        self._note(writer, bits, self._boosts, self.rules.boosts)
        changed: Floats = np.clip(wide, -_LARGEST_SCORE, _LARGEST_SCORE).astype(np.float32)
        return changed

    def _tiers(
        self, page: PolicyPage, bits: Bits, probabilities: Floats, writer: TraceWriter | None
    ) -> npt.NDArray[np.int8] | None:
        """Return where each candidate stands whatever its score; None when all are normal."""
        tiers = np.full(page.size, _NORMAL, np.int8)
        for rule in self._holding(page, self.rules.relevance_floors):
            below = probabilities[:, self._objectives[rule.name]] < np.float32(rule.probability)
            tiers[below] = _BELOW_FLOOR
            if writer is not None:
                writer.acted(rule.name, np.flatnonzero(below).tolist())
        buried = _any_bit(bits, self._buries)
        tiers[buried] = _BURIED
        if buried.any():
            self._note(writer, bits, self._buries, self.rules.buries)
        return tiers if tiers.any() else None

    def _pinned(self, bits: Bits, order: Rows, writer: TraceWriter | None) -> dict[int, int]:
        """Return the pinned candidates by place, from 0."""
        own = bits[self._pin_bytes]
        found = _any_bit(bits, self._pin_bytes)
        if not found.any():
            return {}
        eligible = order[found[order]]
        pins_of = own[:, eligible]
        by_position: dict[int, int] = {}
        free = np.ones(eligible.shape[0], np.bool_)
        present = np.bitwise_or.reduce(pins_of, axis=1).tolist()
        for index, pin in enumerate(self._pins):
            if not present[index // 8] >> index % 8 & 1:
                continue
            matching = np.flatnonzero(free & (pins_of[index // 8] >> index % 8 & 1))
            if matching.shape[0]:
                free[matching[0]] = False
                by_position[pin.position] = int(eligible[matching[0]])
                if writer is not None:
                    writer.acted(pin.name, [by_position[pin.position]])
        # a position behind the end of the page is its end
        end = len(order)
        places: dict[int, int] = {}
        for position in sorted(by_position, reverse=True):
            end = min(position, end) - 1
            places[end] = by_position[position]
        return places

    def _spread(
        self, page: PolicyPage, queue: Rows, scores: Floats, writer: TraceWriter | None
    ) -> Rows:
        for rule in self._holding(page, self.rules.diversities):
            pool = queue[: rule.choose_from]
            known = page.rows[pool] != page.table.unknown_row
            vectors = unit_vectors(page.vectors[pool], known)
            choose = mmr_order if rule.method == "mmr" else dpp_order
            chosen = choose(scores[pool], vectors, rule.within_top, rule.relevance_weight)
            left = np.ones(pool.shape[0], np.bool_)
            left[chosen] = False
            spread = np.concatenate([pool[chosen], pool[left], queue[rule.choose_from :]])
            if writer is not None:
                writer.acted(rule.name, queue[spread != queue].tolist())
            queue = spread
        return queue

    def _limits(self, page: PolicyPage, bits: Bits, in_force: Bits, shown: int) -> list[Limit]:
        limits = []
        for index, (rule, each) in enumerate(zip(self.rules.exposures, self._each, strict=True)):
            byte, mask = self._exposures.start + index // 8, np.uint8(1 << index % 8)
            if not in_force[byte] & mask:
                continue
            member = bits[byte] >> index % 8 & 1
            groups = member.astype(np.int32) - 1  # 0, or -1 for none
            if each:
                values = each(page)
                # 0 is unknown, which is no group
                groups = np.where((groups == 0) & (values != 0), values, NO_GROUP)
            places = min(rule.within_top, shown)
            limits.append(
                Limit(
                    rule=rule.name,
                    groups=groups,
                    places=places,
                    cap=rule.cap(places),
                    floor=rule.floor(places),
                )
            )
        return limits

    def _holding(self, page: PolicyPage, rules: Sequence[_Placed]) -> list[_Placed]:
        if not rules:
            return []
        surface, query = self._surfaces[page.surface], normal_query(page.query)
        return [rule for rule in rules if rule.when.holds(surface, page.time, query)]

    def _note(
        self, writer: TraceWriter | None, bits: Bits, part: slice, rules: Sequence[Matched]
    ) -> None:
        if writer is None:
            return
        for index, rule in enumerate(rules):
            acts = bits[part.start + index // 8] >> index % 8 & 1
            writer.acted(rule.name, np.flatnonzero(acts).tolist())


def _single_pins(pins: Sequence[PinRule]) -> Iterator[PinRule]:
    """Yield pins of one place each, those of products first, then by position."""
    others = []
    for rule in pins:
        if not rule.is_by_product:
            others.append(rule)
            continue
        for place, product in enumerate(rule.selector.products):
            own = Selector(products=(product,))
            yield replace(rule, selector=own, position=rule.position + place)
    yield from sorted(others, key=lambda rule: rule.position)


def _layout(groups: Sequence[Sequence[Matched]]) -> tuple[list[int], list[slice]]:
    """Return the bit of each rule, each group from a byte of its own, and the bytes of each."""
    bits: list[int] = []
    slices = []
    start = 0
    for group in groups:
        width = (len(group) + 7) // 8
        bits += range(8 * start, 8 * start + len(group))
        slices.append(slice(start, start + width))
        start += width
    return bits, slices


def _any_bit(bits: Bits, part: slice) -> Flags:
    found: Flags = np.bitwise_or.reduce(bits[part], axis=0) != 0
    return found


def _boost_table(boosts: Sequence[BoostRule]) -> npt.NDArray[np.complex128]:
    """Return what each value of each byte does to a score, shape (bytes, 256).

    The real part is the logarithm of the factor, the imaginary part the addition: one look-up
    for both.
    """
    table = np.zeros(((len(boosts) + 7) // 8, 256), np.complex128)
    values = np.arange(256)
    for index, rule in enumerate(boosts):
        has_bit = (values >> index % 8 & 1) != 0
        table[index // 8, has_bit] += complex(np.log(rule.multiply), rule.add)
    return table

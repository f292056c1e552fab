"""What holds for every page and every policy."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rerank_server.policy import Policy, order_by_score
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
    Selector,
    When,
)
from tests.rerank_server.policies import BRANDS, CATEGORIES, policy_page
from tests.rerank_server.tiny_bundle import SCHEMA, VOCABULARY

EVERYWHERE = When()
selectors = st.one_of(
    st.builds(
        Selector,
        products=st.lists(
            st.integers(0, 14).map("p{}".format), min_size=1, max_size=4, unique=True
        ).map(tuple),
    ),
    st.sampled_from(
        [
            Selector(categories=("dairy",)),
            Selector(categories=("dairy", "pet")),
            Selector(attributes={"brand": ("Acme",)}),
            Selector(categories=("pet",), attributes={"brand": ("Acme",)}),
        ]
    ),
)
whens = st.sampled_from([EVERYWHERE, When(surfaces=("search",)), When(surfaces=("promotion",))])


@st.composite
def rule_sets(draw) -> PolicyRules:
    names = iter(f"rule {number}" for number in range(100))

    def several(build, most: int) -> tuple[Any, ...]:
        return tuple(build() for _ in range(draw(st.integers(0, most))))

    def selected(kind):
        return lambda: kind(next(names), draw(whens), draw(selectors))

    def exposure() -> ExposureRule:
        within_top = draw(st.integers(1, 8))
        count = draw(st.integers(1, within_top))
        each = draw(st.sampled_from(["", "", "category", "brand"]))
        bound = "max_count" if each else draw(st.sampled_from(["min_count", "max_count"]))
        selector = Selector() if each else draw(selectors)
        return ExposureRule(
            next(names), draw(whens), selector, within_top, each=each, **{bound: count}
        )

    def diversity() -> DiversityRule:
        top = draw(st.integers(1, 6))
        method = draw(st.sampled_from(["mmr", "dpp"]))
        weight = draw(st.sampled_from([0.0, 0.5, 0.9]))
        return DiversityRule(next(names), EVERYWHERE, method, weight, top, top + 3)

    return PolicyRules(
        pins=several(
            lambda: PinRule(next(names), draw(whens), draw(selectors), draw(st.integers(1, 14))), 3
        ),
        hides=several(selected(HideRule), 2),
        boosts=several(
            lambda: BoostRule(
                next(names),
                draw(whens),
                draw(selectors),
                draw(st.sampled_from([0.5, 1.0, 3.0])),
                draw(st.sampled_from([-1.0, 0.0, 2.0])),
            ),
            3,
        ),
        buries=several(selected(BuryRule), 1),
        exposures=several(exposure, 3),
        diversities=several(diversity, 1),
        relevance_floors=several(
            lambda: RelevanceFloorRule(next(names), draw(whens), "purchase", 0.4), 1
        ),
    )


@st.composite
def consistent_rule_sets(draw) -> PolicyRules:
    rules: PolicyRules = draw(rule_sets())
    try:
        check_conflicts(rules)
    except PolicyError:
        assume(False)
    return rules


@st.composite
def pages(draw):
    """A page with scores and probabilities, many of them equal."""
    size = draw(st.integers(1, 15))

    def column(values):
        return draw(st.lists(st.sampled_from(list(values)), min_size=size, max_size=size))

    vectors = np.array(column([(1, 0), (0, 1), (1, 1), (0, 0)]), np.float32)
    page = policy_page(
        column(CATEGORIES),
        column(BRANDS),
        vectors=vectors,
        known=column([True, True, True, False]),
        surface=draw(st.integers(0, 1)),
    )
    scores = np.array(column([-1.0, 0.0, 0.25, 0.5, 1.0]), np.float32)
    probabilities = np.array(column([0.1, 0.4, 0.9]), np.float32)
    return page, scores, np.stack([probabilities, probabilities], axis=1)


def compiled(rules: PolicyRules) -> Policy:
    return Policy(rules, SCHEMA, VOCABULARY)


def selects(selector: Selector, page, candidate: int) -> bool:
    """Whether a selector selects a candidate, by the plainest reading of the rule."""
    row = page.rows[candidate]
    category = list(CATEGORIES)[page.categories[candidate]]
    brand = list(BRANDS)[page.table.attributes[row, 0]]
    brands = selector.attributes.get("brand")
    return (
        (not selector.products or page.candidate_ids[candidate] in selector.products)
        and (not selector.categories or category in selector.categories)
        and (brands is None or brand in brands)
    )


def in_force(rule, page) -> bool:
    surface = SCHEMA.surfaces[page.surface]
    return not rule.when.surfaces or surface in rule.when.surfaces


@given(pages())
def test_no_rules_are_the_order_by_score(case):
    page, scores, probabilities = case
    ruling = compiled(PolicyRules()).apply(page, scores, probabilities)
    assert ruling.ranks.tolist() == order_by_score(scores, None).tolist()
    assert ruling.scores.tolist() == scores.tolist()


@settings(deadline=None)
@given(consistent_rule_sets(), pages())
def test_only_hidden_candidates_are_left_out_and_none_comes_twice(rules, case):
    page, scores, probabilities = case
    ruling = compiled(rules).apply(page, scores, probabilities, trace=True)
    hidden = {
        candidate
        for candidate in range(page.size)
        for rule in rules.hides
        if in_force(rule, page) and selects(rule.selector, page, candidate)
    }
    assert sorted(ruling.ranks.tolist()) == sorted(set(range(page.size)) - hidden)
    assert ruling.trace is not None
    assert ruling.trace.hidden == len(hidden)
    assert ruling.scores.dtype == np.float32
    assert np.isfinite(ruling.scores).all()


@settings(deadline=None)
@given(consistent_rule_sets(), pages())
def test_the_same_page_gives_the_same_answer_traced_or_not(rules, case):
    page, scores, probabilities = case
    first = compiled(rules).apply(page, scores, probabilities)
    again = compiled(rules).apply(page, scores, probabilities, trace=True)
    cut = compiled(rules).apply(page, scores, probabilities, top_k=3)
    assert first.ranks.tolist() == again.ranks.tolist()
    assert first.scores.tolist() == again.scores.tolist()
    assert cut.ranks.tolist() == first.ranks.tolist()[:3]


@settings(deadline=None)
@given(consistent_rule_sets(), pages())
def test_pinned_products_stand_where_they_are_pinned(rules, case):
    page, scores, probabilities = case
    shown = compiled(rules).apply(page, scores, probabilities).ranks.tolist()
    pins = [rule for rule in rules.pins if in_force(rule, page)]
    # behind the end of the page pins make room for each other
    assume(all(rule.positions[-1] <= len(shown) for rule in pins))
    for rule in pins:
        if not rule.is_by_product:
            continue
        for position, product in zip(rule.positions, rule.selector.products, strict=True):
            candidate = page.candidate_ids.index(product) if product in page.candidate_ids else -1
            if candidate in shown:
                assert shown[position - 1] == candidate


@settings(deadline=None)
@given(consistent_rule_sets(), pages())
def test_caps_hold_unless_every_other_candidate_is_capped_sunk_or_pinned(rules, case):
    page, scores, probabilities = case
    shown = compiled(rules).apply(page, scores, probabilities).ranks.tolist()
    caps = [rule for rule in rules.exposures if rule.max_count and in_force(rule, page)]
    sunk = {
        candidate
        for candidate in shown
        if any(
            in_force(rule, page) and selects(rule.selector, page, candidate)
            for rule in rules.buries
        )
        or (
            any(in_force(rule, page) for rule in rules.relevance_floors)
            and probabilities[candidate, 0] < np.float32(0.4)
        )
    }

    def group(rule, candidate):
        if rule.each == "category":
            return int(page.categories[candidate]) or None
        if rule.each == "brand":
            return int(page.table.attributes[page.rows[candidate], 0]) or None
        return 0 if selects(rule.selector, page, candidate) else None

    def full_groups(places: int) -> dict[str, set[int]]:
        full = {}
        for rule in caps:
            counts = Counter(group(rule, c) for c in shown[: min(rule.within_top, places)])
            full[rule.name] = {
                g for g, n in counts.items() if g is not None and n >= rule.max_count
            }
        return full

    for rule in caps:
        counts = Counter(group(rule, c) for c in shown[: rule.within_top])
        counts.pop(None, None)
        if not counts or max(counts.values()) <= rule.max_count:
            continue
        # over its cap: pins count, or nothing was left that no cap refuses
        full = full_groups(rule.within_top)
        pins = [pin for pin in rules.pins if in_force(pin, page)]
        free = [
            candidate
            for candidate in shown[rule.within_top :]
            if candidate not in sunk
            and not any(
                group(other, candidate) in full[other.name]
                for other in caps
                if group(other, candidate) is not None
            )
        ]
        assert pins or not free


@settings(deadline=None)
@given(pages(), st.sampled_from([Selector(categories=("dairy",)), Selector(categories=("pet",))]))
def test_a_floor_that_the_page_can_serve_is_served(case, selector):
    page, scores, probabilities = case
    for floor in range(1, 4):
        rule = ExposureRule("floor", EVERYWHERE, selector, 4, min_count=floor)
        shown = compiled(PolicyRules(exposures=(rule,))).apply(page, scores, probabilities).ranks
        members = sum(selects(selector, page, candidate) for candidate in range(page.size))
        got = sum(selects(selector, page, candidate) for candidate in shown.tolist()[:4])
        assert got >= min(floor, members)


@settings(deadline=None)
@given(consistent_rule_sets(), pages(), st.randoms())
def test_permuting_candidates_with_distinct_scores_never_changes_the_order(rules, case, random):
    page, _, probabilities = case
    page = policy_page(
        [list(CATEGORIES)[row] for row in page.categories],
        [list(BRANDS)[page.table.attributes[row, 0]] for row in page.rows],
        surface=page.surface,
    )
    scores = np.array([1 + 0.37 * number**1.1 for number in range(page.size)], np.float32)
    order = list(range(page.size))
    random.shuffle(order)
    moved = policy_page(
        [list(CATEGORIES)[page.categories[at]] for at in order],
        [list(BRANDS)[page.table.attributes[at, 0]] for at in order],
        surface=page.surface,
    )
    moved.candidate_ids[:] = [page.candidate_ids[at] for at in order]  # type: ignore[index]
    plain_ruling = compiled(rules).apply(page, scores, probabilities)
    assume(len(set(plain_ruling.scores.tolist())) == page.size)
    moved_ruling = compiled(rules).apply(moved, scores[order], probabilities[order])
    plain = [page.candidate_ids[rank] for rank in plain_ruling.ranks.tolist()]
    assert [moved.candidate_ids[rank] for rank in moved_ruling.ranks.tolist()] == plain

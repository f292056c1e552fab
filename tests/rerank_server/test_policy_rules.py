"""What the rules of a policy do to a page, each worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rerank_server.policy_rules import PolicyError
from tests.rerank_server.policies import apply, order, policy, policy_page
from tests.rerank_server.tiny_bundle import NOW

DAIRY_AND_PET = ["dairy", "pet", "dairy", "pet", ""]


def test_a_hidden_product_is_the_only_one_left_out():
    page = policy_page(size=4)
    assert order('[[hide]]\nname = "h"\nproducts = ["p1", "elsewhere"]', page) == [0, 2, 3]


@pytest.mark.parametrize(
    ("selector", "hidden"),
    [
        ('categories = ["pet"]', {1, 3}),
        ('brands = ["Acme"]', {0, 1}),
        ('attributes = { brand = ["Acme"] }', {0, 1}),
        ('nodes = ["milk", "pet food"]', {0, 3}),  # of different levels
        ('attributes = { size = ["1 l"] }', {2}),
        ('categories = ["dairy"]\nbrands = ["Acme"]', {0}),
        ('categories = ["dairy", "pet"]\nattributes = { size = ["1 l", "2 kg"] }', {1, 2}),
        ('products = ["p0", "p1", "p4"]\nbrands = ["Acme"]\ncategories = ["pet"]', {1}),
    ],
)
def test_lists_are_one_of_and_keys_are_all_of(selector, hidden):
    page = policy_page(
        DAIRY_AND_PET,
        ["Acme", "Acme", "", "", ""],
        leaves=["milk", "", "", "", ""],
        middles=["", "", "", "pet food", ""],
        sizes=["", "2 kg", "1 l", "", ""],
    )
    shown = order(f'[[hide]]\nname = "h"\n{selector}', page)
    assert set(range(5)) - set(shown) == hidden


def test_the_best_match_takes_a_pinned_position():
    page = policy_page(DAIRY_AND_PET)
    text = '[[pin]]\nname = "p"\ncategories = ["pet"]\nposition = 1'
    assert order(text, page) == [1, 0, 2, 3, 4]
    assert order(text, page, scores=[5, 1, 4, 2, 3]) == [3, 0, 2, 4, 1]


def test_pinned_products_stand_one_after_the_other_and_an_absent_one_leaves_its_place():
    page = policy_page(size=5)
    text = '[[pin]]\nname = "p"\nproducts = ["p4", "elsewhere", "p3"]\nposition = 2'
    assert order(text, page) == [0, 4, 1, 3, 2]


def test_a_position_behind_the_page_is_its_end():
    page = policy_page(size=4)
    text = """
        [[pin]]
        name = "far"
        products = ["p0"]
        position = 900
        [[pin]]
        name = "farther"
        products = ["p1"]
        position = 901
        [[pin]]
        name = "last"
        products = ["p2"]
        position = 4
    """
    assert order(text, page) == [3, 2, 0, 1]


def test_hiding_wins_over_a_pin():
    page = policy_page(["dairy", "pet"])
    text = """
        [[pin]]
        name = "p"
        products = ["p1"]
        position = 1
        [[hide]]
        name = "h"
        categories = ["pet"]
    """
    assert order(text, page) == [0]


def test_boosts_multiply_first_and_add_last():
    page = policy_page(DAIRY_AND_PET, ["Acme", "", "Acme", "", ""])
    text = """
        [[boost]]
        name = "plus"
        categories = ["dairy"]
        add = 1.0
        multiply = 2.0
        [[boost]]
        name = "times"
        brands = ["Acme"]
        multiply = 3.0
        [[boost]]
        name = "less"
        categories = ["pet"]
        multiply = 0.5
    """
    ruling = apply(text, page, scores=[1, 4, 0.25, 2, 3])
    np.testing.assert_allclose(ruling.scores, [7, 2, 2.5, 1, 3], rtol=1e-6)
    assert ruling.ranks.tolist() == [0, 4, 2, 1, 3]


def test_a_factor_above_1_lifts_a_score_below_0_too():
    ruling = apply(
        '[[boost]]\nname = "b"\nproducts = ["p1"]\nmultiply = 2.0',
        policy_page(size=2),
        scores=[-3, -4],
    )
    assert ruling.scores.tolist() == [-3, -2]
    assert ruling.ranks.tolist() == [1, 0]


def test_many_large_boosts_stay_finite():
    tables = [
        f'[[boost]]\nname = "b{number}"\nproducts = ["p1"]\nmultiply = 1000000.0\nadd = 1000000.0'
        for number in range(100)
    ]
    ruling = apply("\n".join(tables), policy_page(size=2), scores=[1, 3e38])
    assert np.isfinite(ruling.scores).all()
    assert ruling.ranks.tolist() == [1, 0]


def test_buried_candidates_stand_behind_those_below_the_relevance_floor():
    page = policy_page(DAIRY_AND_PET)
    text = """
        [[bury]]
        name = "b"
        products = ["p0"]
        [[relevance_floor]]
        name = "f"
        objective = "trial"
        probability = 0.25
    """
    trial = [0.9, 0.1, 0.25, 0.2, 0.9]
    probabilities = np.stack([np.zeros(5), trial], axis=1).astype(np.float32)
    assert order(text, page, probabilities=probabilities) == [2, 4, 1, 3, 0]


@pytest.mark.parametrize(
    ("surface", "time", "query", "holds"),
    [
        (0, NOW, "milk", True),
        (0, NOW, "  MILK ", True),
        (1, NOW, "milk", False),
        (0, NOW, "dog food", False),
        (0, NOW - 1, "milk", False),
        (0, NOW + 59, "milk", True),
        (0, NOW + 60, "milk", False),
    ],
)
def test_a_rule_holds_for_its_surfaces_queries_and_times(surface, time, query, holds):
    text = """
        name = "r"
        surfaces = ["search"]
        queries = ["Milk", "fresh  milk"]
        from = 2024-10-04T01:00:00Z
        until = 2024-10-04T03:01:00+02:00
    """
    page = policy_page(size=2, surface=surface, time=time, query=query)
    moved = [1, 0] if holds else [0, 1]
    kinds = {
        "pin": 'products = ["p1"]\nposition = 1',
        "boost": 'products = ["p1"]\nadd = 9',
        "bury": 'products = ["p0"]',
        "relevance_floor": 'objective = "purchase"\nprobability = 0.3',
        "exposure": 'products = ["p1"]\nmin_count = 1\nwithin_top = 1',
    }
    probabilities = np.array([[0.2, 0], [0.4, 0]], np.float32)
    for kind, rest in kinds.items():
        got = order(f"[[{kind}]]\n{text}\n{rest}", page, probabilities=probabilities)
        assert got == moved, kind


def test_an_unknown_category_is_matched_by_no_rule_on_categories():
    page = policy_page(["", "dairy"])
    text = '[[bury]]\nname = "b"\ncategories = ["dairy", "pet"]'
    assert order(text, page, scores=[1, 2]) == [0, 1]


def test_rows_that_the_rules_do_not_name_are_told_from_those_they_do():
    # a store of a larger vocabulary than the rules use
    page = policy_page(["pet", "dairy"])
    page.categories[:] = [7, 1]
    assert order('[[hide]]\nname = "h"\ncategories = ["dairy"]', page) == [0]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ('brands = ["Acne"]', r"attributes.brand: got 'Acne', want .* \(nearest: Acme\)"),
        ('categories = ["diary"]', r"got 'diary', .* \(nearest: dairy\)"),
        ('categories = ["neutral"]', r"rule 'r': categories: got 'neutral'"),
        ('nodes = ["milks"]', r"got 'milks', .* \(nearest: milk\)"),
        ('attributes = { sise = ["1 l"] }', r"attribute: got 'sise', .* \(nearest: size\)"),
        ('products = ["p"]\nsurfaces = ["serch"]', r"got 'serch', .* \(nearest: search\)"),
    ],
)
def test_a_name_that_the_bundle_does_not_know_is_refused(rule, message):
    with pytest.raises(PolicyError, match=message):
        policy(f'[[hide]]\nname = "r"\n{rule}')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[relevance_floor]]\nname = "f"\nobjective = "buy"\nprobability = 0.1',
            "objective: got 'buy', want one of purchase, trial",
        ),
        (
            '[[exposure]]\nname = "e"\neach = "brant"\nmax_count = 1\nwithin_top = 2',
            r"each: got 'brant', .* \(nearest: brand\)",
        ),
    ],
)
def test_an_objective_or_column_that_the_bundle_does_not_know_is_refused(text, message):
    with pytest.raises(PolicyError, match=message):
        policy(text)


def test_the_trace_says_which_rule_acted_on_what():
    page = policy_page(DAIRY_AND_PET)
    text = """
        [[boost]]
        name = "lift"
        products = ["p4", "p3"]
        multiply = 10.0
        [[hide]]
        name = "gone"
        products = ["p2", "elsewhere"]
        [[pin]]
        name = "first"
        products = ["p1"]
        position = 1
        [[pin]]
        name = "absent"
        products = ["nowhere"]
        position = 2
        [[exposure]]
        name = "three pets"
        categories = ["pet"]
        min_count = 3
        within_top = 4
    """
    ruling = apply(text, page, trace=True, top_k=2)
    assert ruling.ranks.tolist() == [1, 3]
    trace = ruling.trace
    assert trace is not None
    assert trace.policy_version == policy(text).version
    assert trace.hidden == 1
    assert trace.rules == ["first", "gone", "lift", "three pets"]
    assert trace.shortfalls == [0, 0, 0, 1]
    rows = zip(
        trace.rule_indexes,
        trace.retrieval_ranks,
        trace.ranks_before,
        trace.ranks_after,
        strict=True,
    )
    assert list(rows) == [(0, 1, 1, 0), (1, 2, 2, -1), (2, 3, 3, 1), (2, 4, 4, 2)]


def test_the_trace_is_made_only_when_asked_for():
    assert apply("", policy_page(size=2)).trace is None
    trace = apply("", policy_page(size=2), trace=True).trace
    assert trace is not None
    assert (trace.rules, trace.hidden) == ([], 0)

"""Rules that cannot all hold on some page are refused, and the rules are named."""

from __future__ import annotations

import pytest

from rerank_server.policy_parse import parse_policy
from rerank_server.policy_rules import PolicyError

JANUARY = "from = 2026-01-01T00:00:00Z\nuntil = 2026-02-01T00:00:00Z"
FEBRUARY = "from = 2026-02-01T00:00:00Z"
MIDDLE = "from = 2026-01-15T00:00:00Z\nuntil = 2026-02-15T00:00:00Z"


def table(kind: str, name: str, *lines: str) -> str:
    return "\n".join([f"[[{kind}]]", f'name = "{name}"', *lines, ""])


def pin(name: str, products: str, position: int, *when: str) -> str:
    return table("pin", name, f"products = {products}", f"position = {position}", *when)


def exposure(name: str, group: str, bound: str, within_top: int = 10, *when: str) -> str:
    return table("exposure", name, group, bound, f"within_top = {within_top}", *when)


def test_two_pins_of_one_product_are_refused():
    with pytest.raises(PolicyError, match="pin 'b': got product 'x', which 'a' pins"):
        parse_policy(pin("a", '["w", "x"]', 1) + pin("b", '["x"]', 9))


def test_two_pins_for_one_position_are_refused():
    with pytest.raises(PolicyError, match="pin 'b': got position 2, which 'a' fills"):
        parse_policy(pin("a", '["w", "x"]', 1) + pin("b", '["y"]', 2))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (JANUARY, FEBRUARY),
        ('surfaces = ["search"]', 'surfaces = ["home", "category"]'),
        ('queries = ["milk"]', 'queries = ["dog food"]'),
    ],
)
def test_pins_that_never_meet_are_no_conflict(first, second):
    text = pin("a", '["x"]', 1, first) + pin("b", '["x"]', 1, second)
    assert parse_policy(text).size == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (JANUARY, MIDDLE),
        (FEBRUARY, MIDDLE),
        ('surfaces = ["search"]', ""),
        ('queries = ["milk", "fresh milk"]', 'queries = ["Fresh Milk"]'),
        (f'surfaces = ["search"]\n{JANUARY}', f'queries = ["milk"]\n{MIDDLE}'),
    ],
)
def test_pins_that_meet_on_some_page_are_a_conflict(first, second):
    with pytest.raises(PolicyError, match="which 'a' pins at the same time"):
        parse_policy(pin("a", '["x"]', 1, first) + pin("b", '["x"]', 5, second))


def test_a_hidden_pin_is_refused():
    text = pin("p", '["x", "y"]', 1) + table("hide", "h", 'products = ["y", "z"]')
    with pytest.raises(PolicyError, match=r"pin 'p': got \['y'\], which 'h' hides"):
        parse_policy(text)


def test_a_pin_of_a_hidden_group_is_refused():
    group = table("hide", "h", 'categories = ["dairy", "pet"]')
    inside = table("pin", "p", 'categories = ["pet"]', 'brands = ["Acme"]', "position = 1")
    with pytest.raises(PolicyError, match="got the same candidates, which 'h' hides"):
        parse_policy(inside + group)
    partly = table("pin", "p", 'brands = ["Acme"]', "position = 1")
    assert parse_policy(partly + group).size == 2


def test_hiding_after_the_pin_has_ended_is_no_conflict():
    text = pin("p", '["x"]', 1, JANUARY) + table("hide", "h", 'products = ["x"]', FEBRUARY)
    assert parse_policy(text).size == 2


def test_a_name_twice_is_refused():
    with pytest.raises(PolicyError, match="rule 'a': got the name twice"):
        parse_policy(pin("a", '["x"]', 1) + table("hide", "a", 'products = ["z"]'))


def test_floors_that_need_more_places_than_there_are_are_refused():
    dairy = exposure("a", 'categories = ["dairy"]', "min_count = 6")
    pet = exposure("b", 'categories = ["pet"]', "min_share = 0.5")
    with pytest.raises(
        PolicyError, match="exposure 'a', 'b': got floors of 11 in the top 10, want"
    ):
        parse_policy(dairy + pet)


def test_floors_that_one_product_can_serve_are_no_conflict():
    dairy = exposure("a", 'categories = ["dairy"]', "min_count = 6")
    acme = exposure("b", 'brands = ["Acme"]', "min_count = 6")
    assert parse_policy(dairy + acme).size == 2


def test_floors_at_different_times_are_no_conflict():
    dairy = exposure("a", 'categories = ["dairy"]', "min_count = 6", 10, JANUARY)
    pet = exposure("b", 'categories = ["pet"]', "min_count = 6", 10, FEBRUARY)
    assert parse_policy(dairy + pet).size == 2


@pytest.mark.parametrize(
    ("cap", "room"),
    [
        (exposure("cap", 'categories = ["dairy", "pet"]', "max_count = 3"), 3),
        (exposure("cap", 'each = "category"', "max_share = 0.3"), 3),
        (exposure("cap", 'categories = ["dairy"]', "max_count = 0", 7), 3),
    ],
)
def test_a_floor_above_a_cap_of_the_same_candidates_is_refused(cap, room):
    floor = exposure("floor", 'categories = ["dairy"]\nbrands = ["Acme"]', "min_count = 4")
    with pytest.raises(PolicyError, match=f"'floor': .* at most {room} under the cap of 'cap'"):
        parse_policy(cap + floor)
    assert parse_policy(cap + floor.replace("4", "3")).size == 2


def test_two_floors_under_one_cap_are_added_up():
    text = (
        exposure("cap", 'categories = ["dairy", "pet"]', "max_count = 3")
        + exposure("a", 'categories = ["dairy"]', "min_count = 2")
        + exposure("b", 'categories = ["pet"]', "min_count = 2")
    )
    with pytest.raises(PolicyError, match=r"exposure 'a', 'b': got floors of 4 .* at most 3"):
        parse_policy(text)


def test_a_cap_of_each_category_leaves_room_for_a_floor_of_two():
    text = exposure("cap", 'each = "category"', "max_count = 3") + exposure(
        "floor", 'categories = ["dairy", "pet"]', "min_count = 6"
    )
    assert parse_policy(text).size == 2


def test_two_diversity_rules_or_floors_of_one_objective_at_a_time_are_refused():
    def diversity(name: str, *when: str) -> str:
        rest = ('method = "mmr"', "relevance_weight = 0.5", "within_top = 5")
        return table("diversity", name, *rest, *when)

    def floor(name: str, objective: str) -> str:
        rest = f'objective = "{objective}"'
        return table("relevance_floor", name, rest, "probability = 0.1")

    with pytest.raises(PolicyError, match="diversity: got 'a' and 'b' at the same time, want one"):
        parse_policy(diversity("a") + diversity("b", JANUARY))
    assert parse_policy(diversity("a", FEBRUARY) + diversity("b", JANUARY)).size == 2
    with pytest.raises(PolicyError, match="relevance_floor of 'purchase': got 'a' and 'b'"):
        parse_policy(floor("a", "purchase") + floor("b", "purchase"))
    assert parse_policy(floor("a", "purchase") + floor("b", "trial")).size == 2

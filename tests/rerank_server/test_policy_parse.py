"""A policy file is read strictly: what is wrong is named, and so are rules that contradict."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_server.policy_parse import MAX_RULES, parse_policy
from rerank_server.policy_rules import ExposureRule, PolicyError, Selector, When

ROOT = Path(__file__).resolve().parents[2]
PRODUCTS = 'products = ["p"]'


def test_no_text_is_no_rules():
    rules = parse_policy("")
    assert rules.size == 0
    assert parse_policy("format_version = 1").version == rules.version


def test_the_example_holds_a_rule_of_every_kind():
    rules = parse_policy((ROOT / "deploy" / "policy.example.toml").read_text("utf-8"))
    assert {type(rule).__name__ for rule in rules} == {
        "PinRule",
        "HideRule",
        "BoostRule",
        "BuryRule",
        "ExposureRule",
        "DiversityRule",
        "RelevanceFloorRule",
    }


def test_the_version_is_of_what_the_rules_say():
    text = '[[boost]]\nname = "b"\nproducts = ["p"]\nadd = 1.0\n'
    version = parse_policy(text).version
    assert len(version) == 64
    moved = '# campaign\n[[boost]]\nadd = 1  # one\nproducts = [ "p" ]\nname = "b"\n'
    assert parse_policy(moved).version == version
    assert parse_policy(text.replace("1.0", "1.5")).version != version


def test_every_key_reaches_its_rule():
    rules = parse_policy("""
        [[exposure]]
        name = "e"
        brands = ["Acme"]
        categories = ["dairy"]
        nodes = ["milk"]
        attributes = { size = ["1 l"] }
        surfaces = ["search"]
        queries = ["Fresh  Milk"]
        from = 1970-01-01T01:00:00+01:00
        until = 1970-01-01T00:00:00.5Z
        within_top = 10
        min_count = 1
        max_share = 0.35
    """)
    (rule,) = rules.exposures
    assert rule == ExposureRule(
        name="e",
        when=When(("search",), ("fresh milk",), 0, 1),
        selector=Selector((), ("dairy",), ("milk",), {"size": ("1 l",), "brand": ("Acme",)}),
        within_top=10,
        min_count=1,
        max_share=0.35,
    )
    assert (rule.floor(10), rule.cap(10)) == (1, 3)


def test_shares_are_not_moved_by_how_numbers_are_stored():
    rule = ExposureRule("e", When(), Selector(), 30, min_share=0.1, max_share=0.7)
    assert (rule.floor(30), rule.cap(10)) == (3, 7)  # .1 * 30 and .7 * 10 are not exact


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[pin", "policy: got .*, want TOML"),
        ("format_version = 2", "format_version: got 2, want 1"),
        ("format_version = true", "format_version: got True, want 1"),
        ("[[pins]]", r"policy: got unknown key 'pins', want .* \(nearest: pin\)"),
        ("[pin]", r"pin: got {}, want tables that begin with \[\[pin\]\]"),
        ("pin = 3", "pin: got 3, want tables"),
        ("[[hide]]", "hide 1: got name None, want a text of 1 to 256 bytes"),
        ('[[hide]]\nname = ""', "hide 1: got name ''"),
        ('[[hide]]\nname = "h"', "hide 'h': got nothing to act on, want products, brands"),
        ('[[hide]]\nname = "h"\nproduct = ["p"]', r"unknown key 'product', .*nearest: products\)"),
        ('[[hide]]\nname = "h"\nproducts = "p"', "products: got 'p', want a list of 1 to"),
        ('[[hide]]\nname = "h"\nproducts = []', r"products: got \[\], want a list"),
        ('[[hide]]\nname = "h"\nproducts = [1]', "products: got 1, want texts of 1 to 256 bytes"),
        ('[[hide]]\nname = "h"\nproducts = ["p", "p"]', "products: got 'p' twice"),
        ('[[hide]]\nname = "h"\nattributes = ["x"]', r"attributes: got \['x'\], want a table"),
        (
            '[[hide]]\nname = "h"\nbrands = ["a"]\nattributes = { brand = ["b"] }',
            "got brands and attributes.brand, want one of them",
        ),
        (f'[[hide]]\nname = "h"\n{PRODUCTS}\nfrom = 2026-01-01', "from: got .*, want a time with"),
        (f'[[hide]]\nname = "h"\n{PRODUCTS}\nfrom = 2026-01-01T00:00:00', "want a time with its z"),
        (
            f'[[hide]]\nname = "h"\n{PRODUCTS}\nfrom = 2026-01-02T00:00:00Z\n'
            "until = 2026-01-01T00:00:00Z",
            "want from before until",
        ),
        (f'[[pin]]\nname = "p"\n{PRODUCTS}', "position: got None, want a whole number from 1"),
        (f'[[pin]]\nname = "p"\n{PRODUCTS}\nposition = 0', "position: got 0, want a whole number"),
        (f'[[pin]]\nname = "p"\n{PRODUCTS}\nposition = true', "position: got True"),
        (
            '[[pin]]\nname = "p"\nproducts = ["a", "b"]\nposition = 1000',
            "got 2 products from position 1000, want at most 100, the last at 1000 or before",
        ),
        (f'[[boost]]\nname = "b"\n{PRODUCTS}', "got neither multiply nor add"),
        (f'[[boost]]\nname = "b"\n{PRODUCTS}\nmultiply = 0', "multiply: got 0, want a number from"),
        (f'[[boost]]\nname = "b"\n{PRODUCTS}\nmultiply = nan', "multiply: got nan"),
        (f'[[boost]]\nname = "b"\n{PRODUCTS}\nadd = inf', "add: got inf"),
        (f'[[exposure]]\nname = "e"\n{PRODUCTS}\nwithin_top = 5', "got no bound"),
        (
            f'[[exposure]]\nname = "e"\n{PRODUCTS}\nwithin_top = 5\nmax_count = 6',
            "max_count: got 6, want a whole number from 0 to 5",
        ),
        (
            f'[[exposure]]\nname = "e"\n{PRODUCTS}\nwithin_top = 101\nmax_count = 6',
            "within_top: got 101, want a whole number from 1 to 100",
        ),
        (
            f'[[exposure]]\nname = "e"\n{PRODUCTS}\nwithin_top = 5\nmax_count = 6\nmax_share = 1.0',
            "got max_count and max_share, want one of them",
        ),
        (
            '[[exposure]]\nname = "e"\neach = "brand"\nwithin_top = 5\nmin_count = 1',
            "got a floor for each brand, want a cap only",
        ),
        (
            f'[[exposure]]\nname = "e"\n{PRODUCTS}\nwithin_top = 5\nmax_count = 1\nmin_share = 0.4',
            "got a floor of 2 above its cap of 1",
        ),
        (
            '[[diversity]]\nname = "d"\nmethod = "mrr"\nrelevance_weight = 1\nwithin_top = 5',
            r"method: got 'mrr', want mmr or dpp \(nearest: mmr\)",
        ),
        (
            '[[diversity]]\nname = "d"\nmethod = "dpp"\nrelevance_weight = 1\nwithin_top = 5',
            "relevance_weight: got 1, want a number from 0 to 0.99",
        ),
        (
            '[[diversity]]\nname = "d"\nmethod = "mmr"\nrelevance_weight = 1\nwithin_top = 5\n'
            "choose_from = 4",
            "choose_from: got 4, want a whole number from 5 to 200",
        ),
        (
            '[[relevance_floor]]\nname = "r"\nobjective = "purchase"\nprobability = 1.5',
            "probability: got 1.5, want a number from 0 to 1",
        ),
        ('[[relevance_floor]]\nname = "r"\nprobability = 0.5', "objective: got None, want a text"),
    ],
)
def test_a_wrong_file_is_named(text, message):
    with pytest.raises(PolicyError, match=message):
        parse_policy(text)


def test_more_rules_than_allowed_are_refused():
    text = "\n".join(
        f'[[hide]]\nname = "h{number}"\nproducts = ["p"]' for number in range(MAX_RULES + 1)
    )
    with pytest.raises(PolicyError, match=f"got {MAX_RULES + 1} rules, want at most {MAX_RULES}"):
        parse_policy(text)


def test_deep_nesting_is_an_error_like_any_other():
    with pytest.raises(PolicyError, match="want TOML"):
        parse_policy("x = " + "[" * 100_000)


KEYS = ["pin", "hide", "name", "products", "position", "attributes", "from", "x"]
VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=5),
        st.datetimes(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner)
    ),
    max_leaves=8,
)


def toml(value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = "".join(f"\\U{ord(character):08X}" for character in value)
        return f'"{escaped}"'
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    return str(value).replace("'", "")


def refusal(text: str) -> str | None:
    """What is wrong with a file; None when nothing is. Any other error fails the test."""
    try:
        parse_policy(text)
    except PolicyError as error:
        return str(error)
    return None


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
def test_whatever_a_file_says_the_answer_is_rules_or_an_error_of_ours(document):
    reason = refusal("\n".join(f"{key} = {toml(value)}" for key, value in document.items()))
    assert reason is None or ("got" in reason and len(reason) < 1_000)


@given(st.text(max_size=200))
def test_any_text_is_rules_or_an_error_of_ours(text):
    reason = refusal(text)
    assert reason is None or "got" in reason

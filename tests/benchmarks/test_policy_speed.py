"""How long a policy of 200 rules takes for a page of 1,000 candidates.

`pytest tests/benchmarks/test_policy_speed.py --benchmark-enable` measures; without the flag each
page is ruled once, so that the benchmark stays true.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from rerank_server.contract.products import ProductTable
from rerank_server.contract.vocabulary import Vocabulary
from rerank_server.policy import Policy
from rerank_server.policy_match import PolicyPage
from rerank_server.policy_parse import parse_policy
from tests.rerank_server.tiny_bundle import AS_OF_DAY, NOW, SCHEMA

CANDIDATES = 1_000
PRODUCTS = 20_000
BRANDS = [f"brand {number}" for number in range(300)]
LEAVES = [f"leaf {number}" for number in range(200)]
CATEGORIES = [f"category {number}" for number in range(40)]
SIZES = [f"size {number}" for number in range(50)]
SHAPE = replace(SCHEMA, categories=("neutral", *CATEGORIES))
WORDS = Vocabulary(
    levels=(tuple(LEAVES), tuple(LEAVES[:50])),
    attributes=(tuple(BRANDS), tuple(SIZES)),
    identities=(),
)
DIVERSITIES = {
    "": "",
    "mmr": '[[diversity]]\nname = "spread"\nmethod = "mmr"\nrelevance_weight = 0.7\n'
    "within_top = 20\n",
    "dpp": '[[diversity]]\nname = "spread"\nmethod = "dpp"\nrelevance_weight = 0.7\n'
    "within_top = 20\n",
}


def policy_text() -> str:
    """200 rules: 100 boosts, 40 buries, 30 hides, 20 pins and 10 exposures."""
    tables = []

    def add(kind: str, number: int, *lines: str) -> None:
        when = ["", "from = 2020-01-01T00:00:00Z", 'surfaces = ["search"]'][number % 3]
        tables.append("\n".join([f"[[{kind}]]", f'name = "{kind} {number}"', when, *lines]))

    for number in range(100):
        which = (
            f'brands = ["brand {number}", "brand {number + 100}"]',
            f'categories = ["category {number % 40}"]\nattributes = {{ size = ["size 3"] }}',
            f'nodes = ["leaf {number}"]',
            f'products = ["product {number}", "product {number + 500}"]',
        )[number % 4]
        add("boost", number, which, f"multiply = {1 + number / 100}", "add = 0.01")
    for number in range(40):
        add("bury", number, f'nodes = ["leaf {150 + number}"]', 'attributes.size = ["size 7"]')
    for number in range(30):
        add("hide", number, f'products = ["product {number * 7}", "elsewhere {number}"]')
    for number in range(20):
        which = f'products = ["product {1000 + number * 31}"]'
        add("pin", number, which, f"position = {number + 1}")
    for number in range(9):
        bound = "min_count = 1" if number % 2 else "max_count = 2"
        add("exposure", number, f'categories = ["category {number}"]', bound, "within_top = 20")
    add("exposure", 9, 'each = "brand"', "max_count = 1", "within_top = 20")
    return "\n".join(tables)


def page_of(seed: int, width: int = 128) -> PolicyPage:
    random = np.random.default_rng(seed)

    def drawn(count: int, shape=(PRODUCTS + 1,)) -> np.ndarray:
        # a few names are frequent, as in a shop
        rows: np.ndarray = (random.random(shape) ** 2 * (count + 1)).astype(np.int32)
        return rows

    table = ProductTable(
        categories=drawn(len(CATEGORIES)),
        levels=np.stack([drawn(len(LEAVES)), drawn(50)], axis=1),
        attributes=np.stack([drawn(len(BRANDS)), drawn(len(SIZES))], axis=1),
        stats=np.zeros((PRODUCTS + 1, 2), np.float32),
        factors=np.zeros((PRODUCTS + 1, 1), np.float32),
        neighbours=np.full((PRODUCTS + 1, 1), -1, np.int32),
        neighbour_weights=np.zeros((PRODUCTS + 1, 1), np.float32),
        gram=np.zeros((1, 1)),
        as_of_day=AS_OF_DAY,
    )
    found = random.choice(PRODUCTS, CANDIDATES, replace=False).astype(np.int32)
    found[::50] = PRODUCTS
    numbers = random.permutation(CANDIDATES * 2)[:CANDIDATES]
    return PolicyPage(
        candidate_ids=[f"product {number}" for number in numbers.tolist()],
        rows=found,
        categories=table.categories[found],
        vectors=random.standard_normal((CANDIDATES, width)).astype(np.float32),
        table=table,
        surface=0,
        time=NOW,
        query="fluid milk",
    )


@pytest.mark.parametrize("diversity", DIVERSITIES)
def test_a_page_of_1000_under_200_rules(benchmark, diversity):
    rules = parse_policy(policy_text() + "\n" + DIVERSITIES[diversity])
    kinds = Counter(type(rule).__name__ for rule in rules)
    assert rules.size - kinds["DiversityRule"] == 200
    policy = Policy(rules, SHAPE, WORDS)
    page = page_of(1)
    random = np.random.default_rng(2)
    scores = random.random(CANDIDATES).astype(np.float32)
    probabilities = random.random((CANDIDATES, 2)).astype(np.float32)
    ruling = benchmark.pedantic(
        policy.apply, (page, scores, probabilities), rounds=2_000, iterations=1, warmup_rounds=20
    )
    assert CANDIDATES - 30 <= len(ruling.ranks) < CANDIDATES
    if benchmark.enabled:
        times = np.array(benchmark.stats.stats.sorted_data) * 1e3
        benchmark.extra_info |= {
            f"p{share}_ms": round(float(np.percentile(times, share)), 3) for share in (50, 99)
        }
    traced = policy.apply(page, scores, probabilities, trace=True)
    assert traced.trace is not None
    assert traced.ranks.tolist() == ruling.ranks.tolist()
    # the benchmark would measure nothing if the rules acted on nothing
    acting = Counter(rule.split()[0] for rule in traced.trace.rules)
    assert acting["boost"] > 50
    assert min(acting[kind] for kind in ("bury", "hide", "pin", "exposure")) > 1

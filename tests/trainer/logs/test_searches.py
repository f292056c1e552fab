from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.logs.log_arrays import InteractionArrays, ProductArrays
from trainer.logs.log_config import LogConfig
from trainer.logs.searches import (
    Baskets,
    find_baskets,
    hash_integers,
    list_queries,
    sample_baskets,
    search_requests,
)

DAY = 86_400
CONFIG = LogConfig(
    adapter="tables",
    train_from=datetime(1970, 1, 11, tzinfo=UTC),
    validation_from=datetime(1970, 1, 21, tzinfo=UTC),
    test_from=datetime(1970, 1, 31, tzinfo=UTC),
)
PATHS = [
    ["dairy", "milk", "skim"],
    ["dairy", "milk", "whole"],
    ["dairy", "cheese", "hard"],
    ["pet", "cat", "dry"],
    ["pet", "cat", "skim"],
]


def products() -> ProductArrays:
    categories = ["dairy", "pet"]
    category = np.array([categories.index(path[0]) + 1 for path in PATHS], np.int32)
    empty = np.zeros(len(PATHS), np.int32)
    return ProductArrays(
        records=[{"id": str(i), "category_path": path} for i, path in enumerate(PATHS)],
        categories=categories,
        leaves=[],
        middles=[],
        brands=[],
        sizes=[],
        category=category,
        leaf=empty,
        middle=empty,
        brand=empty,
        size=empty,
    )


def interactions(lines: list[tuple[int, int, int]]) -> InteractionArrays:
    """Return interactions of (shopper, time, product row)."""
    shopper, time, row = (np.array(column) for column in zip(*sorted(lines), strict=True))
    count = len(row)
    return InteractionArrays(
        shoppers=[],
        places=["a"],
        shopper=shopper.astype(np.int32),
        row=row.astype(np.int32),
        time=time.astype(np.int64),
        place=np.zeros(count, np.int32),
        period=np.zeros(count, np.int32),
        quantity=np.ones(count, np.float32),
        price=np.ones(count, np.float32),
        discount=np.zeros(count, np.float32),
        shopper_offsets=np.concatenate([[0], np.cumsum(np.bincount(shopper))]).astype(np.int64),
    )


def members(catalogue, text: str, category: int) -> list[list[int]]:
    """Return the product rows of every group of a query in a category."""
    return [
        catalogue.groups.members[catalogue.groups.offsets[g] : catalogue.groups.offsets[g + 1]]
        .tolist()
        for g in range(len(catalogue.query))
        if catalogue.queries[catalogue.query[g]] == text and catalogue.category[g] == category
    ]  # fmt: skip


def test_a_query_matches_the_products_of_its_level_in_one_category():
    catalogue = list_queries(products())
    assert catalogue.queries == ["cat", "cheese", "dry", "hard", "milk", "skim", "whole"]
    assert members(catalogue, "milk", 1) == [[0, 1]]
    assert members(catalogue, "skim", 1) == [[0]]
    assert members(catalogue, "skim", 2) == [[4]]
    assert members(catalogue, "cat", 2) == [[3, 4]]


def test_lines_of_one_time_are_one_basket_and_history_makes_none():
    log = interactions([(0, 5 * DAY, 0), (0, 12 * DAY, 0), (0, 12 * DAY, 1), (0, 12 * DAY + 1, 2)])
    baskets = find_baskets(log, CONFIG)
    assert baskets.start.tolist() == [1, 3]
    assert baskets.end.tolist() == [3, 4]
    by_day = find_baskets(log, CONFIG, by_day=True)
    assert by_day.start.tolist() == [1]
    assert by_day.end.tolist() == [4]


def test_a_basket_belongs_to_the_split_its_time_begins():
    times = [11 * DAY, 20 * DAY - 1, 20 * DAY, 30 * DAY - 1, 30 * DAY]
    baskets = find_baskets(interactions([(0, time, 0) for time in times]), CONFIG)
    assert baskets.split.tolist() == [0, 0, 1, 1, 2]


def test_a_basket_asks_once_per_broad_query():
    log = interactions([(0, 12 * DAY, row) for row in range(5)])
    catalogue = list_queries(products())
    requests = search_requests(log, find_baskets(log, CONFIG), catalogue, CONFIG)
    assert sorted(requests.category.tolist()) == [1, 1, 2]
    for scope, query in zip(requests.scope.tolist(), requests.query.tolist(), strict=True):
        assert catalogue.query[scope] == query
    answered = {catalogue.queries[query] for query in requests.query.tolist()}
    assert len(answered & {"milk", "skim", "whole"}) >= 1
    assert len(answered & {"cheese", "hard"}) == 1


def test_half_of_the_queries_are_broad():
    log = interactions([(shopper, 12 * DAY, 0) for shopper in range(2_000)])
    catalogue = list_queries(products())
    requests = search_requests(log, find_baskets(log, CONFIG), catalogue, CONFIG)
    broad = np.mean([catalogue.queries[query] == "milk" for query in requests.query])
    assert broad == pytest.approx(0.5, abs=0.05)


def test_the_requests_of_a_basket_do_not_depend_on_other_baskets():
    catalogue = list_queries(products())
    few = [(0, 12 * DAY, 0), (0, 12 * DAY, 3)]
    many = [*few, *((1, 13 * DAY, row) for row in range(5)), (0, 14 * DAY, 2)]
    queries = []
    for lines in (few, many):
        log = interactions(lines)
        requests = search_requests(log, find_baskets(log, CONFIG), catalogue, CONFIG)
        first = (requests.shopper == 0) & (requests.time == 12 * DAY)
        queries.append(requests.query[first].tolist())
    assert queries[0] == queries[1]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), min_size=1, max_size=30),
    st.integers(0, 40),
)
def test_sampling_takes_whole_baskets_and_never_passes_the_limit(baskets, limit):
    split = np.array([part for part, _ in baskets], np.int8)
    sizes = np.array([size for _, size in baskets])
    index = np.arange(len(baskets), dtype=np.int64)
    table = Baskets(index, index + 1, split, hash_integers(3, index))
    owner = np.repeat(index, sizes)
    kept = sample_baskets(table, owner, (limit, limit, limit))
    for basket in index:
        assert len(np.unique(kept[owner == basket])) == 1
    for part in range(3):
        taken = int(kept[split[owner] == part].sum())
        total = int(sizes[split == part].sum())
        assert taken == total if total <= limit else taken <= limit


def test_hashes_spread_and_depend_on_every_column_and_the_seed():
    columns = np.arange(10_000), np.zeros(10_000, np.int64)
    hashes = hash_integers(1, *columns)
    assert len(np.unique(hashes)) == 10_000
    assert abs(np.mean((hashes & np.uint64(1)).astype(float)) - 0.5) < 0.02
    assert (hashes != hash_integers(2, *columns)).all()
    assert (hashes != hash_integers(1, columns[0], columns[1] + 1)).all()

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.encoding.counts import PRODUCT_COLUMNS, RollingStats, purchases_in_time

PRODUCTS = 4
LEAVES = np.array([1, 1, 2, 0], np.int32)
NAMES = [column.name for column in PRODUCT_COLUMNS]

# shopper, product, second, price, discount
lines = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, PRODUCTS - 1),
        st.integers(100 * SECONDS_PER_DAY, 240 * SECONDS_PER_DAY),
        st.sampled_from([math.nan, 0.5, 1.0, 3.0]),
        st.sampled_from([0.0, 0.25, 0.5]),
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda line: line[2],
)


def purchases(log):
    log = sorted(log, key=lambda line: (line[0], line[2]))
    counts = np.bincount([line[0] for line in log], minlength=3)
    return purchases_in_time(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.array([line[1] for line in log], np.int32),
        np.array([line[2] for line in log], np.int64),
        np.array([line[3] for line in log], np.float32),
        np.array([line[4] for line in log], np.float32),
    )


def stats_of(log):
    return RollingStats(purchases(log), PRODUCTS, LEAVES)


def recount(log, day):
    """Count everything anew from the lines before `day`, product by product."""
    past = sorted((line for line in log if line[2] < day * SECONDS_PER_DAY), key=lambda x: x[2])
    table = np.full((PRODUCTS + 1, len(NAMES)), np.nan)
    prices = {}
    for product in range(PRODUCTS):
        own = [line for line in past if line[1] == product]

        def within(days, own=own):
            return [line for line in own if line[2] // SECONDS_PER_DAY >= day - days]

        row: dict[str, float] = {f"sales_{days}d": len(within(days)) for days in (7, 28, 56, 91)}
        earlier = {
            line: any(other[0] == line[0] and other[2] < line[2] for other in own) for line in own
        }
        if within(91):
            row["repeat_share_91d"] = float(np.mean([earlier[line] for line in within(91)]))
        if within(28):
            row["discount_share_28d"] = np.mean([line[4] for line in within(28)])
        recent = [line[3] for line in within(28) if not math.isnan(line[3])]
        known = [line[3] for line in own if not math.isnan(line[3])]
        if known:
            row["price"] = np.mean(recent) if recent else known[-1]
            prices[product] = row["price"]
        if own:
            row["log_age_days"] = math.log1p(day - own[0][2] // SECONDS_PER_DAY)
        for name, value in row.items():
            table[product, NAMES.index(name)] = value
    for product, price in prices.items():
        alike = [prices[other] for other in prices if LEAVES[other] == LEAVES[product]]
        ratio = math.log(price) - np.mean(np.log(alike))
        table[product, NAMES.index("price_leaf_ratio")] = ratio
    return table


@settings(max_examples=60, deadline=None)
@given(lines, st.lists(st.integers(95, 340), min_size=1, max_size=4))
def test_rolling_statistics_equal_a_recount_on_any_day(log, days):
    stats = stats_of(log)
    for day in sorted(days):
        stats.advance(day)
        np.testing.assert_allclose(stats.columns(), recount(log, day), atol=2e-6)


@settings(max_examples=30, deadline=None)
@given(lines, st.integers(100, 240))
def test_nothing_of_the_day_or_later_enters(log, day):
    past = [line for line in log if line[2] < day * SECONDS_PER_DAY]
    if not past:
        return
    whole, cut = stats_of(log), stats_of(past)
    whole.advance(day)
    cut.advance(day)
    np.testing.assert_array_equal(whole.columns(), cut.columns())


def test_a_day_before_the_first_purchase_knows_nothing():
    stats = stats_of([(0, 1, 150 * SECONDS_PER_DAY, 1.0, 0.0)])
    stats.advance(120)
    table = stats.columns()
    assert (table[:PRODUCTS, :4] == 0).all()
    assert np.isnan(table[:, 4:]).all()
    stats.advance(151)
    assert stats.columns()[1, 0] == 1


def test_a_window_ends_on_the_day_before_and_starts_its_length_earlier():
    stats = stats_of([(0, 0, 100 * SECONDS_PER_DAY, 2.0, 0.0)])
    sales = []
    for day in (100, 101, 107, 108):
        stats.advance(day)
        sales.append(int(stats.columns()[0, NAMES.index("sales_7d")]))
    assert sales == [0, 1, 1, 0]


def test_days_must_not_decrease():
    stats = stats_of([(0, 0, 100 * SECONDS_PER_DAY, 2.0, 0.0)])
    stats.advance(110)
    with pytest.raises(ValueError, match="day: got 109, want at least 110"):
        stats.advance(109)


def test_the_first_purchase_of_a_shopper_is_no_repeat():
    day = SECONDS_PER_DAY
    found = purchases(
        [(0, 0, day, 1, 0), (1, 0, 2 * day, 1, 0), (0, 0, 3 * day, 1, 0), (0, 1, 4 * day, 1, 0)]
    )
    assert found.repeats.tolist() == [False, False, True, False]
    assert found.days.tolist() == [1, 2, 3, 4]
    assert found.shoppers.tolist() == [0, 1, 0, 0]

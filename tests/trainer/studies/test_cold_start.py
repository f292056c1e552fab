"""Cold start: counts, the prior and ranks by hand, and a small run's curves."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trainer.evaluation.comparison import NETWORK
from trainer.reports.sheet import sheet_text
from trainer.studies.cold_start import (
    NAMES,
    PRIOR,
    bucket_of,
    cold_start_sheet,
    count_before,
    expected_sales,
    measure_cold_start,
    popularity_prior,
    reciprocal_ranks,
    write_cold_start,
)


def test_counts_fall_into_their_buckets():
    counts = np.array([0, 1, 2, 3, 9, 10, 29, 30, 99, 100, 999, 1_000, 50_000])
    assert bucket_of(counts).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert len(NAMES) == 7


def test_only_what_was_before_is_counted():
    keys = np.array([5, 5, 2, 5])
    times = np.array([10, 30, 20, 20])
    asked, at = np.array([5, 5, 5, 2, 7]), np.array([10, 20, 31, 21, 99])
    assert count_before(keys, times, asked, at).tolist() == [0, 1, 3, 1, 0]


def test_the_prior_lies_between_brand_and_category():
    # category 1: mean 4, mean of squares 30, so b = 4 / (30 - 16 - 4) = .4
    counts = np.array([10, 4, 2, 0])
    categories, brands = np.array([1, 1, 1, 1]), np.array([3, 3, 0, 5])
    prior, firmness = popularity_prior(counts, categories, brands)
    # brand 3: (14 + 2 * 4) / 4; without a brand the category's; brand 5: (0 + 4) / 2
    np.testing.assert_allclose(prior, [5.5, 5.5, 4.0, 2.0])
    np.testing.assert_allclose(firmness, 0.4)
    unseen = expected_sales(np.array([0]), prior[:1], firmness[:1])
    np.testing.assert_allclose(unseen, [0.4 * 5.5 / 1.4])


def test_ranks_are_among_what_was_not_bought():
    offsets = np.array([0, 4, 6])
    gains = np.array([0.0, 1, 1, 0, 0, 1])
    scores = np.array([3.0, 2, 9, 1, 5, 5])
    ranks = reciprocal_ranks(scores, gains, offsets, np.array([1, 2, 5]))
    # behind one of two; first; behind its equal, which stood before it
    np.testing.assert_allclose(ranks, [1 / 2, 1, 1 / 2])


@pytest.fixture(scope="module")
def found(tiny_run):
    return measure_cold_start(tiny_run)


def test_every_bought_product_is_judged_once(found, tiny_run):
    log = tiny_run.log
    for task, one in found.products.items():
        pages = log.pages_of("test", task.lower())
        rows = np.concatenate([np.arange(log.offsets[p], log.offsets[p + 1]) for p in pages])
        assert sum(one.counts) == int((log.labels[rows, 0] > 0).sum())
        assert set(one.figures) == {NETWORK, PRIOR}


def test_table_and_json_say_the_same(found, tmp_path):
    write_cold_start(tmp_path / "cold.json", found)
    told = json.loads((tmp_path / "cold.json").read_text())
    text = sheet_text(cold_start_sheet("tiny", found))
    for task, one in told["products"].items():
        assert f"{task}, observations before" in text
        assert sum(one["counts"]) == sum(found.products[task].counts)
    assert told["observations"] == list(NAMES)

"""Item-kNN as a ranking, against sums written out pair by pair."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from rerank_server.contract.page import SECONDS_PER_DAY
from tests.trainer.log_files_for_tests import CONFIG, DAY, START, write_log
from trainer.baselines.item_knn import REFIT_DAYS, item_knn_scores, similarities
from trainer.config import TrainConfig
from trainer.encoding.dataset import read_prepared
from trainer.encoding.encoded import cutoff_days, encode
from trainer.encoding.pageset import encoded_pages
from trainer.logs.prepare import prepare


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Twelve shoppers who take one to three of ten products a day, at one time."""
    random = np.random.default_rng(1)
    rows = [
        {
            "user": f"u{shopper}",
            "item": f"p{item}",
            "time": START + day * DAY + 3_600 * shopper,
            "category": "toys" if item % 2 else "books",
        }
        for shopper in range(12)
        for day in range(30)
        for item in random.choice(10, random.integers(1, 4), replace=False)
    ]
    folder = tmp_path_factory.mktemp("knn")
    prepared = prepare(write_log(folder, pl.DataFrame(rows), CONFIG), folder, progress=False)
    config = TrainConfig("knn", "log.toml", surfaces=("home",))
    return encode(read_prepared(prepared), config.surfaces, REFIT_DAYS, folder)


def baskets_before(prepared, day):
    """The products of every basket before a day."""
    baskets: dict[tuple[int, int], set[int]] = {}
    for shopper, (first, last) in enumerate(pairwise(prepared.shopper_offsets.tolist())):
        for index in range(first, last):
            time = int(prepared.interaction_times[index])
            if time < day * SECONDS_PER_DAY:
                basket = baskets.setdefault((shopper, time), set())
                basket.add(int(prepared.interaction_rows[index]))
    return list(baskets.values())


def test_similarity_is_the_cosine_of_baskets_and_one_to_itself(log):
    prepared = log.prepared
    day = cutoff_days(prepared, REFIT_DAYS)[-1]
    baskets = baskets_before(prepared, day)
    got = similarities(prepared, day).toarray()
    for left in range(prepared.size):
        for right in range(prepared.size):
            both = sum(left in basket and right in basket for basket in baskets)
            norms = [sum(row in basket for basket in baskets) for row in (left, right)]
            assert got[left, right] == pytest.approx(both / math.sqrt(norms[0] * norms[1]))
    assert np.diag(got) == pytest.approx(1)


def test_scores_sum_similarities_to_the_past_of_the_candidates_category(log):
    prepared, pages = log.prepared, encoded_pages(log, "test", "home")
    got = item_knn_scores(log, pages)
    cutoffs = np.array(cutoff_days(prepared, REFIT_DAYS))
    for page in range(0, pages.pages, 7):
        time, shopper = int(pages.time[page]), int(pages.shopper[page])
        day = int(cutoffs[np.flatnonzero(cutoffs <= time // SECONDS_PER_DAY)[-1]])
        similar = similarities(prepared, day).toarray()
        first, last = prepared.shopper_offsets[shopper : shopper + 2].tolist()
        latest = {
            int(prepared.interaction_rows[index]): int(prepared.interaction_times[index])
            for index in range(first, last)
            if prepared.interaction_times[index] < time
        }
        for row in range(pages.offsets[page], pages.offsets[page + 1]):
            candidate = int(pages.rows[row])
            expected = sum(
                0.5 ** ((time - then) / SECONDS_PER_DAY / log.schema.half_life_days)
                * similar[product, candidate]
                for product, then in latest.items()
                if prepared.product_categories[product] == pages.categories[row]
            )
            assert got[row] == pytest.approx(expected, rel=1e-5)
    assert pages.pages > 10
    assert (got > 0).any()

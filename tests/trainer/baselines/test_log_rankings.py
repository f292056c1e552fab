"""The rankings that fit on a log, worked by hand on three shoppers and four products."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import trainer.encoding.past_fits
from rerank_server.contract.page import SECONDS_PER_DAY
from tests.trainer.synthetic_pages import page_set
from trainer.baselines.log_rankings import LOG_RANKINGS, chosen_rankings
from trainer.baselines.nearest_shoppers import user_knn_scores
from trainer.baselines.session_knn import session_knn_scores
from trainer.encoding.pageset import PageSet
from trainer.encoding.past_fits import largest_in_row
from trainer.evaluation.evaluation import EvaluationError


@dataclass(frozen=True)
class SmallPrepared:
    """What the rankings read of a prepared log."""

    shoppers: tuple[str, ...]
    shopper_offsets: np.ndarray
    interaction_rows: np.ndarray
    interaction_times: np.ndarray
    product_categories: np.ndarray
    page_times: np.ndarray

    @property
    def size(self) -> int:
        return len(self.product_categories)


@dataclass(frozen=True)
class SmallSchema:
    half_life_days: float = 10.0


@dataclass(frozen=True)
class SmallLog:
    prepared: SmallPrepared
    schema: SmallSchema = field(default_factory=SmallSchema)


def log_of(events: dict[str, list[tuple[int, int]]], products: int, page_days: list[int]):
    """Events are (day, product) by shopper, oldest first."""
    flat = [event for own in events.values() for event in own]
    return SmallLog(
        SmallPrepared(
            shoppers=tuple(events),
            shopper_offsets=np.cumsum([0, *map(len, events.values())]),
            interaction_rows=np.array([product for _, product in flat], np.int32),
            interaction_times=np.array([day for day, _ in flat], np.int64) * SECONDS_PER_DAY,
            product_categories=np.ones(products, np.int32),
            page_times=np.array(page_days, np.int64) * SECONDS_PER_DAY,
        )
    )


def pages_of(shoppers: list[int], days: list[int], products: int) -> PageSet:
    """Every page has all products for candidates."""
    pages = page_set([[0] * products for _ in shoppers], shopper=shoppers)
    rows = np.tile(np.arange(products, dtype=np.int32), len(shoppers))
    return replace(pages, rows=rows, time=np.array(days, np.int64) * SECONDS_PER_DAY)


# Ben's last event and all of Cai's come after the page or on its day
EVENTS = {"Ann": [(0, 0), (10, 1)], "Ben": [(10, 0), (10, 2), (20, 3)], "Cai": [(25, 3)]}
HAND_WORKED = {
    # baskets {0}, {1}, {0, 2}: cosines 1 to itself and 1 / sqrt(2) of 0 and 2
    "item-knn": [0.25, 0.5, 0.25 / sqrt(2), 0.0],
    # Ann (1/4, 1/2, 0, 0), Ben (1/2, 0, 1/2, 0), their cosine 1 / sqrt(10)
    "user-knn": [0.25 + 0.5 / sqrt(10), 0.5, 0.5 / sqrt(10), 0.0],
    # Ann's latest weigh 1/2 and 1; s({0}) = .5 / sqrt(2), s({1}) = 1 / sqrt(2), s({0, 2}) = 1/4,
    # and these sessions are 20, 10 and 10 days old
    "session-knn": [0.5 / sqrt(2) / 4 + 0.25 / 2, 1 / sqrt(2) / 2, 0.25 / 2, 0.0],
    # ages of 20 and 10 days, of 10, of 10; half-life 7 days
    "decayed-popularity": [0.5 ** (20 / 7) + 0.5 ** (10 / 7), *[0.5 ** (10 / 7)] * 2, 0.0],
}


@pytest.mark.parametrize("name", LOG_RANKINGS)
def test_scores_are_those_worked_by_hand(name):
    log = log_of(EVENTS, 4, [20])
    got = LOG_RANKINGS[name](log, pages_of([0, 0], [20, 20], 4))
    np.testing.assert_allclose(got, HAND_WORKED[name] * 2, rtol=1e-6)


@pytest.mark.parametrize("name", ["item-knn", "user-knn", "session-knn"])
def test_a_shopper_without_a_past_says_nothing(name):
    got = LOG_RANKINGS[name](log_of(EVENTS, 4, [20]), pages_of([2], [20], 4))
    np.testing.assert_array_equal(got, np.zeros(4))


def random_log(days: int = 80):
    random = np.random.default_rng(0)
    events = {
        f"u{shopper}": sorted(
            (int(day), int(product))
            for day, product in zip(
                random.integers(0, days, 30), random.integers(0, 9, 30), strict=True
            )
        )
        for shopper in range(12)
    }
    page_days = [20, 25, 33, 50, 50, 61, 79]
    return log_of(events, 9, page_days), pages_of([0, 3, 5, 7, 7, 11, 2], page_days, 9)


@pytest.mark.parametrize("ranking", [user_knn_scores, session_knn_scores])
def test_scores_do_not_depend_on_how_many_pages_are_scored_at_once(ranking, monkeypatch):
    log, pages = random_log()
    together = ranking(log, pages)
    monkeypatch.setattr(trainer.encoding.past_fits, "_MOST_CELLS", 1)
    np.testing.assert_allclose(ranking(log, pages), together, rtol=1e-12)
    assert (together > 0).any()


@pytest.mark.parametrize("name", LOG_RANKINGS)
def test_what_happens_after_a_page_changes_no_score(name):
    log, pages = random_log()
    early = pages.select(pages.time < 40 * SECONDS_PER_DAY)
    prepared = log.prepared
    late = prepared.interaction_times >= 40 * SECONDS_PER_DAY
    rows = np.where(late, 8 - prepared.interaction_rows, prepared.interaction_rows)
    other = replace(log, prepared=replace(prepared, interaction_rows=rows))
    np.testing.assert_array_equal(LOG_RANKINGS[name](other, early), LOG_RANKINGS[name](log, early))


def test_of_equal_neighbours_those_of_lower_columns_stay():
    matrix = csr_matrix(np.array([[0.5, 1.0, 0.5, 0.0], [0.0, 0.0, 0.0, 2.0]]))
    kept = largest_in_row(matrix, 2).toarray()
    np.testing.assert_array_equal(kept, [[0.5, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0]])


def test_an_unknown_ranking_names_the_nearest():
    assert list(chosen_rankings(["user-knn"])) == ["user-knn"]
    with pytest.raises(EvaluationError, match=r"baselines: got 'user_knn'.*nearest: user-knn"):
        chosen_rankings(["user_knn"])

from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.synthetic_pages import page_set, synthetic_pages
from trainer.baselines.baselines import (
    BASELINES,
    item_knn,
    own_repeat,
    random_order,
    retrieval_order,
)
from trainer.evaluation.metrics import expected_random_ndcg_at_k, ndcg_at_k, ranks_in_page


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_scores_every_candidate(name):
    pages = synthetic_pages(20)
    scores = BASELINES[name](pages)
    assert scores.shape == (pages.candidates,)
    assert scores.dtype == np.float64
    assert not np.isnan(scores).any()


def test_retrieval_order_changes_nothing():
    pages = synthetic_pages(20)
    assert np.array_equal(ranks_in_page(retrieval_order(pages), pages.offsets), pages.position)


def test_own_repeat_keeps_retrieval_order_among_products_never_bought():
    pages = page_set([[0, 0, 0, 1]], own_decayed_60d=[[0, 0.2, 0, 0.9]])
    assert ranks_in_page(own_repeat(pages), pages.offsets).tolist() == [2, 1, 3, 0]


def test_a_missing_feature_ranks_last():
    pages = page_set([[0, 1, 0]], knn_own_category=[[np.nan, 0.0, 0.4]])
    assert ranks_in_page(item_knn(pages), pages.offsets).tolist() == [2, 1, 0]


def test_random_order_reaches_the_expected_ndcg():
    pages = synthetic_pages(3000)
    gains = pages.objective("purchase")
    expected = np.nanmean(expected_random_ndcg_at_k(gains, pages.offsets, 10))
    got = np.nanmean(ndcg_at_k(gains, random_order(pages), pages.offsets, 10))
    assert got == pytest.approx(expected, abs=0.02)
    assert np.array_equal(random_order(pages, 3), random_order(pages, 3))

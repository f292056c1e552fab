"""Reranking in process: scores worked out by hand, and retrieval order when they cannot be had."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from rerank_server.contract.bundle import write_bundle
from rerank_server.contract.errors import BundleError, PageError
from rerank_server.onnx_graph import open_graphs
from rerank_server.page import DegradedReason, SearchPage, ShopperHistory
from rerank_server.reranker import Reranker
from rerank_server.scorer import ScorerError
from tests.rerank_server.scorers import (
    ConstantScorer,
    CountingScorer,
    FailingScorer,
    with_scorer,
)
from tests.rerank_server.tiny_bundle import NOW, tiny_content, write_tiny_store

IDS = ["dog-1", "milk-2", "milk-1", "never-seen"]


def sigmoid(logits) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def by_id(ranked) -> dict[str, list[float]]:
    return dict(zip(ranked.candidate_ids, ranked.probabilities.tolist(), strict=True))


def test_scores_are_as_worked_out_by_hand(tiny_reranker):
    page = SearchPage(
        IDS,
        retrieval_scores=[4, 3, 2, 1],
        signals={"promoted": np.array([1, 0, np.nan, 0], np.float32)},
        query="fresh milk",
        time=NOW,
        history=ShopperHistory(["milk-1", "dog-1", "milk-1"], [NOW - 90, NOW - 60, NOW - 30]),
    )
    ranked = tiny_reranker.rerank(page)
    # retrieval .1, own +1/-1, price -.5/0, promoted .3; vector (category/10, factor); query .02;
    # events: milk-1 twice and dog-1 once -> (.1 + .2 + .1) * .2 for trial; category .05 for trial
    events = 0.4 * 0.2
    want = {
        "dog-1": [0.4 + 1 - 2 + 0.3 + 0.2 + 0.02, 0.4 - 1 + 0.3 + 0.02 + events + 0.1],
        "milk-2": [0.3 - 0.6 + 0.1 + 0.25 + 0.02, 0.3 + 0.02 + events + 0.05],
        "milk-1": [0.2 + 2 - 0.5 + 0.1 + 0.5 + 0.02, 0.2 - 2 + 0.02 + events + 0.05],
        "never-seen": [0.1 + 0.02, 0.1 + 0.02 + events],
    }
    assert ranked.candidate_ids == ["milk-1", "never-seen", "milk-2", "dog-1"]
    assert ranked.retrieval_ranks.tolist() == [2, 3, 1, 0]
    for product_id, probabilities in by_id(ranked).items():
        np.testing.assert_allclose(probabilities, sigmoid(want[product_id]), atol=1e-6)
    np.testing.assert_array_equal(ranked.scores, ranked.probabilities[:, 0])
    assert ranked.objectives == ("purchase", "trial")
    assert not ranked.degraded


def test_weights_of_the_surface_or_of_the_page_make_the_score(tiny_reranker):
    plain = SearchPage(IDS, surface="promotion", time=NOW)
    ranked = tiny_reranker.rerank(plain)
    np.testing.assert_allclose(ranked.scores, ranked.probabilities.mean(axis=1), atol=1e-6)
    weighted = replace(plain, objective_weights={"trial": 2.0})
    ranked = tiny_reranker.rerank(weighted)
    np.testing.assert_allclose(ranked.scores, 2 * ranked.probabilities[:, 1], atol=1e-6)


def test_unknown_products_are_scored_by_the_category_of_the_page(tiny_reranker):
    def trial(category: str | None) -> float:
        page = SearchPage(["never-seen", "milk-1"], category=category, time=NOW)
        return by_id(tiny_reranker.rerank(page))["never-seen"][1]

    np.testing.assert_allclose(trial(None), sigmoid(0.0), atol=1e-6)
    np.testing.assert_allclose(trial("pet"), sigmoid(0.1), atol=1e-6)
    assert trial("a category never seen") == trial(None)


def test_a_page_of_unknown_everything_is_scored(tiny_reranker):
    page = SearchPage(
        ["x", "y"],
        query="\x00\U0001f95b",
        surface="nowhere",
        category="nothing",
        shopper_id="nobody",
        history=ShopperHistory(["z"], [5]),
    )
    ranked = tiny_reranker.rerank(page)
    assert ranked.candidate_ids == ["x", "y"]
    assert np.isfinite(ranked.scores).all()
    assert not ranked.degraded
    assert ranked.unknown_candidates == 2


def test_candidates_that_the_store_does_not_hold_are_counted(tiny_reranker):
    known = IDS[:3]
    assert tiny_reranker.rerank(SearchPage(known, time=NOW)).unknown_candidates == 0
    ranked = tiny_reranker.rerank(SearchPage([*known, "x", "y"], top_k=1, time=NOW))
    assert ranked.unknown_candidates == 2


def test_equal_scores_keep_retrieval_order(tiny_reranker):
    ids = [f"unknown-{number}" for number in range(1000)]
    ranked = tiny_reranker.rerank(SearchPage(ids))
    assert ranked.candidate_ids == ids


def test_top_k_returns_the_best(tiny_reranker):
    page = SearchPage(IDS, retrieval_scores=[1, 2, 3, 4], time=NOW)
    whole, cut = tiny_reranker.rerank(page), tiny_reranker.rerank(replace(page, top_k=2))
    assert cut.candidate_ids == whole.candidate_ids[:2]
    np.testing.assert_array_equal(cut.scores, whole.scores[:2])
    assert cut.probabilities.shape == (2, 2)


def test_explanations_are_the_score_minus_the_score_without_the_group(tiny_reranker):
    page = SearchPage(
        ["milk-1"],
        retrieval_scores=[2],
        time=NOW,
        history=ShopperHistory(["dog-1"], [NOW - 60]),
        objective_weights={"purchase": 1.0, "trial": 1.0},
        explain=True,
    )
    ranked = tiny_reranker.rerank(page)
    # purchase: retrieval .2, price -.5, vector .1 + .5
    # trial: retrieval .2, events .04, category .05
    purchase, trial = 0.3, 0.29
    score = sigmoid(purchase) + sigmoid(trial)
    want = {
        "retrieval": score - sigmoid(purchase - 0.2) - sigmoid(trial - 0.2),
        "bought before": 0.0,
        "price": score - sigmoid(purchase + 0.5) - sigmoid(trial),
        "promotion": 0.0,
        "product": score - sigmoid(purchase - 0.6) - sigmoid(trial),
        "sequence": score - sigmoid(purchase) - sigmoid(trial - 0.04),
        "query": 0.0,
        "category": score - sigmoid(purchase) - sigmoid(trial - 0.05),
    }
    assert list(ranked.explanations) == list(want)
    for group, values in ranked.explanations.items():
        np.testing.assert_allclose(values, [want[group]], atol=1e-6)


def test_all_explanations_take_one_call_and_change_no_score(tiny_reranker):
    scorer = CountingScorer(open_graphs(tiny_reranker.bundle, threads=1).scorer)
    reranker = with_scorer(tiny_reranker, scorer)
    page = SearchPage(IDS, retrieval_scores=[1, 2, 3, 4], time=NOW)
    plain = reranker.rerank(page)
    explained = reranker.rerank(replace(page, explain=True))
    assert scorer.calls == [1, 1, 4]  # retrieval, price, product and category say something
    np.testing.assert_array_equal(plain.scores, explained.scores)
    assert plain.explanations == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_give_retrieval_order(tiny_reranker, value):
    ranked = with_scorer(tiny_reranker, ConstantScorer(value)).rerank(SearchPage(IDS, top_k=3))
    assert ranked.degraded_reason is DegradedReason.SCORES_NOT_FINITE
    assert ranked.candidate_ids == IDS[:3]
    assert ranked.scores.tolist() == []
    assert "want finite numbers" in ranked.degraded_detail


def test_a_scorer_that_fails_gives_retrieval_order_and_keeps_its_error_in_the_log(
    tiny_reranker, caplog
):
    reranker = with_scorer(tiny_reranker, FailingScorer(ScorerError("out of memory")))
    ranked = reranker.rerank(SearchPage(IDS))
    assert ranked.degraded_reason is DegradedReason.SCORER_FAILED
    assert ranked.candidate_ids == IDS
    assert "out of memory" not in ranked.degraded_detail
    assert "out of memory" in caplog.text


def test_an_unknown_objective_is_refused(tiny_reranker):
    with pytest.raises(PageError, match="objective_weights: got 'clicks'"):
        tiny_reranker.rerank(SearchPage(["a"], objective_weights={"clicks": 1.0}))


def test_weights_that_overflow_give_retrieval_order(tiny_reranker):
    page = SearchPage(IDS, objective_weights={"purchase": 1e300})
    assert tiny_reranker.rerank(page).degraded_reason is DegradedReason.SCORES_NOT_FINITE


def test_threads_share_a_reranker(tiny_reranker):
    pages = [
        SearchPage(
            IDS[number % 4 :] + IDS[: number % 4],
            retrieval_scores=[4, 3, 2, 1],
            query=f"milk {number}",
            time=NOW,
            history=ShopperHistory(["milk-1"] * (number % 5), [NOW - 9] * (number % 5)),
        )
        for number in range(200)
    ]
    want = [tiny_reranker.rerank(page) for page in pages]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(tiny_reranker.rerank, pages))
    for one, other in zip(got, want, strict=True):
        assert one.candidate_ids == other.candidate_ids
        np.testing.assert_array_equal(one.scores, other.scores)


def test_encode_gives_the_raw_features(tiny_reranker):
    encoded = tiny_reranker.encode(SearchPage(["milk-1", "cat-1"], retrieval_scores=[2, 1]))
    np.testing.assert_allclose(encoded.dense[0, :3], [2, 0, 1.0])
    assert np.isnan(encoded.dense[1, 2])


def test_a_bundle_out_of_tolerance_is_not_opened(tmp_path):
    content = tiny_content()
    content.golden.probabilities[0][0, 0] += 1e-3
    bundle = write_bundle(tmp_path / "bundle", content)
    write_tiny_store(tmp_path / "products", bundle, tmp_path / "snapshot")
    with pytest.raises(BundleError, match=r"golden pages: got a difference of 0\.001 .* 1e-05"):
        Reranker.open(tmp_path / "bundle", tmp_path / "products")


def test_open_verifies_the_bundle(tmp_path, tiny_folders):
    with pytest.raises(BundleError, match=r"manifest\.json: got No such file"):
        Reranker.open(tmp_path, tiny_folders.products)

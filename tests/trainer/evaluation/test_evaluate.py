from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tests.trainer.synthetic_pages import page_set, synthetic_pages
from trainer.baselines.baselines import BASELINES, own_repeat, random_order, retrieval_order
from trainer.evaluation.bootstrap import Interval
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.evaluation import EvaluationError, evaluation_from_json, to_json
from trainer.evaluation.evaluation_tables import (
    bracketed,
    figure,
    format_tables,
    proper_slices,
    strongest_other,
)
from trainer.evaluation.metrics import ndcg_at_k

NAMES = ("neutral", "dairy", "pet", "baby")


@pytest.fixture(scope="module")
def page_sets():
    search = synthetic_pages(400, seed=1)
    return {
        "Search": search,
        "Discovery": search.discovery(),
        "Promotion": synthetic_pages(200, seed=2, mixed=True),
    }


@pytest.fixture(scope="module")
def evaluation(page_sets):
    rankings = {
        name: {task: ranking(pages) for task, pages in page_sets.items()}
        for name, ranking in BASELINES.items()
    }
    rankings["network"] = {
        task: own_repeat(pages) + 0.05 * pages.feature("sales_28d")
        for task, pages in page_sets.items()
    }
    return evaluate(page_sets, rankings, category_names=NAMES, draws=300)


def test_every_arm_of_every_task_has_all_figures(evaluation, page_sets):
    for task, pages in page_sets.items():
        result = evaluation.tasks[task]
        assert list(result.rankings) == [*BASELINES, "network"]
        assert list(result.differences) == list(BASELINES)
        assert set(result.rankings["network"].by_category) == {"dairy", "pet", "baby"}
        assert sum(result.category_pages.values()) == pytest.approx(pages.pages)
        assert result.pages == result.scored_pages == pages.pages
        assert result.shoppers == np.unique(pages.shopper).size
        assert result.mixed == (task == "Promotion")


def test_means_are_the_metrics_of_the_pages(evaluation, page_sets):
    pages = page_sets["Search"]
    ndcg = ndcg_at_k(pages.objective("purchase"), retrieval_order(pages), pages.offsets, 10)
    ranking = evaluation.tasks["Search"].rankings["retrieval order"]
    assert ranking.metrics["ndcg_at_10"].mean == pytest.approx(ndcg.mean())
    of_pet = ndcg[pages.page_categories() == 2]
    assert ranking.by_category["pet"].mean == pytest.approx(of_pet.mean())
    macro = np.mean([value.mean for value in ranking.by_category.values()])
    assert ranking.macro.mean == pytest.approx(macro)


def test_a_clear_gain_wins_and_a_clear_loss_is_told(evaluation):
    difference = evaluation.tasks["Search"].differences["random"]
    assert difference.all.verdict == "win"
    assert difference.categories("win") == ["dairy", "pet", "baby"]
    slices = evaluation.tasks["Search"].differences["retrieval order"].by_slice
    assert slices["repeat"].verdict == "win"
    assert slices["never bought"].verdict == "loss"


def test_recall_counts_what_retrieval_missed():
    pages = page_set([[1, 0], [0, 0], [1, 1]], positives_total=[2, 1, 2])
    scores = {"network": {"Search": np.arange(6.0)}}
    result = evaluate({"Search": pages}, scores, category_names=NAMES, draws=10).tasks["Search"]
    assert result.candidate_recall == pytest.approx(3 / 5)
    assert (result.pages, result.scored_pages, result.shoppers) == (3, 2, 2)
    metrics = result.rankings["network"].metrics
    assert metrics["recall_at_10"].mean == pytest.approx((0.5 + 0 + 1) / 3)
    assert metrics["reached_recall_at_10"].mean == 1.0


def test_recall_of_discovery_is_unknown(evaluation):
    result = evaluation.tasks["Discovery"]
    assert math.isnan(result.candidate_recall)
    assert math.isnan(result.rankings["network"].metrics["recall_at_10"].mean)
    assert "repeat" not in result.rankings["network"].by_slice


def test_the_share_of_each_category_among_the_first_ten_sums_to_one(evaluation):
    result = evaluation.tasks["Promotion"]
    for ranking in result.rankings.values():
        assert sum(ranking.top_10_share.values()) == pytest.approx(1)
    assert sum(result.positive_share.values()) == pytest.approx(1)
    assert evaluation.tasks["Search"].rankings["network"].top_10_share == {}


def test_first_ten_of_a_short_page_are_all_of_it():
    pages = page_set([[1, 0], [1, 0, 0, 0]], categories=[[1, 2], [1, 1, 1, 2]])
    scores = {"network": {"Promotion": np.arange(6.0)}}
    result = evaluate({"Promotion": pages}, scores, category_names=NAMES, draws=10)
    share = result.tasks["Promotion"].rankings["network"].top_10_share
    assert share["dairy"] == pytest.approx((1 / 2 + 3 / 4) / 2)


def test_several_seeds_are_averaged_page_by_page(page_sets):
    pages = page_sets["Search"]
    seeds = [random_order(pages, seed) for seed in (1, 2, 3)]
    scores = {"network": {"Search": np.stack(seeds)}, "one": {"Search": seeds[0]}}
    result = evaluate({"Search": pages}, scores, category_names=NAMES, draws=50).tasks["Search"]
    gains = pages.objective("purchase")
    means = [ndcg_at_k(gains, seed, pages.offsets, 10).mean() for seed in seeds]
    assert result.rankings["network"].seeds == pytest.approx(means)
    assert result.rankings["network"].metrics["ndcg_at_10"].mean == pytest.approx(np.mean(means))
    assert result.rankings["one"].seeds == ()


def test_an_arm_may_be_missing_from_a_task(page_sets):
    scores = {
        "network": {task: random_order(pages) for task, pages in page_sets.items()},
        "only search": {"Search": random_order(page_sets["Search"], 1)},
    }
    result = evaluate(page_sets, scores, category_names=NAMES, draws=20)
    assert list(result.tasks["Promotion"].differences) == []
    assert strongest_other(result.tasks["Promotion"], "network") is None
    assert "only search" in format_tables(result)


def test_json_keeps_everything(evaluation):
    text = json.dumps(to_json(evaluation), allow_nan=False)
    again = evaluation_from_json(json.loads(text))
    assert json.dumps(to_json(again), allow_nan=False) == text
    assert format_tables(again) == format_tables(evaluation)
    with pytest.raises(EvaluationError, match="format_version: got 7, want 1"):
        evaluation_from_json({"format_version": 7})
    with pytest.raises(EvaluationError, match="KeyError"):
        evaluation_from_json({"format_version": 1})


def test_the_tables_tell_losses_and_counts(evaluation):
    text = format_tables(evaluation)
    assert "network loses to retrieval order on the slice never bought (" in text
    assert "400 of 400 pages have a reached positive, 40 shoppers" in text
    assert "candidate recall unknown" in text
    assert "share of the first ten" in text
    assert "never bought" not in proper_slices(evaluation.tasks["Discovery"])


def test_figures_are_written_as_in_the_papers():
    assert figure(0.5649) == ".565"
    assert figure(-0.0123, signed=True) == "-.012"
    assert figure(1.0) == "1.000"
    assert figure(0.9999) == "1.000"
    assert figure(math.nan) == "-"
    assert bracketed(Interval(0.1, -0.02, 0.3), signed=True) == "+.100 [-.020, +.300]"


def test_scores_that_do_not_fit_are_refused(page_sets):
    pages = page_sets["Search"]
    fitting = random_order(pages)

    def run(scores, names=NAMES):
        return evaluate({"Search": pages}, scores, category_names=names, draws=5)

    with pytest.raises(EvaluationError, match="network: got 'network', want one of networks"):
        run({"networks": {"Search": fitting}})
    with pytest.raises(EvaluationError, match="got task 'Serch', want one of Search"):
        run({"network": {"Serch": fitting}})
    with pytest.raises(EvaluationError, match="scores of network: got none for task 'Search'"):
        run({"network": {}})
    with pytest.raises(EvaluationError, match="scores of network for Search: got shape"):
        run({"network": {"Search": fitting[1:]}})
    with pytest.raises(EvaluationError, match="got 1 NaN"):
        run({"network": {"Search": np.where(np.arange(fitting.size) == 3, np.nan, fitting)}})
    with pytest.raises(EvaluationError, match="categories of Search: got row 3, want 0 to 1"):
        run({"network": {"Search": fitting}}, NAMES[:2])

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import grpc
import numpy as np
import pytest

from rerank_server.contract.bundle import read_bundle
from rerank_server.contract.page import SECONDS_PER_DAY
from rerank_server.onnx_graph import open_graphs
from rerank_server.pb.rerank_pb2_grpc import RerankServiceStub
from rerank_server.product_build import build_product_store
from rerank_server.reranker import Reranker
from rerank_server.server import RerankServer
from tests.trainer.pages_by_id import request_of, search_page
from trainer.calibration.calibration import Calibration
from trainer.encoding.batches import rows_of
from trainer.encoding.catalogue import with_factors
from trainer.encoding.encoded import cutoff_days, with_objectives
from trainer.encoding.features import fit_past, tables_by_day
from trainer.encoding.pageset import encoded_pages
from trainer.evaluation.evaluation import EvaluationError
from trainer.logs.snapshot import write_snapshot
from trainer.tasks import (
    best_weights,
    calibrate,
    choose_weights,
    log_tasks,
    mixed_surfaces,
    served_scores,
    weight_combinations,
)
from trainer.training.network import score_pages


def test_a_served_score_is_the_weighted_sum_of_calibrated_probabilities():
    calibration = Calibration(
        scale=np.array([[1.0, 1.0], [2.0, 0.5]], np.float32),
        bias=np.array([[0.0, 0.0], [-1.0, 1.0]], np.float32),
    )
    logits, categories = np.array([[0.0, 0.0], [0.5, -2.0]], np.float32), np.array([0, 1])
    scores = served_scores(logits, categories, calibration, {"purchase": 0.25, "trial": 0.5})
    # sigmoid(0) = 1/2 everywhere: 2 * 0.5 - 1 = 0 and 0.5 * -2 + 1 = 0
    np.testing.assert_allclose(scores, [0.375, 0.375], atol=1e-9)


@pytest.fixture(scope="module")
def day_of_pages(tiny_log):
    """The test day with most pages."""
    days = tiny_log.prepared.page_times[tiny_log.selection.pages] // SECONDS_PER_DAY
    values, counts = np.unique(days[tiny_log.splits == 2], return_counts=True)
    day = int(values[counts.argmax()])
    return day, np.flatnonzero((days == day) & (tiny_log.splits == 2))


async def test_scores_served_over_a_channel_equal_the_trainers(
    tiny_run, tiny_config, tiny_export, day_of_pages, tmp_path
):
    log, (day, pages) = tiny_run.log, day_of_pages
    past = fit_past(log.prepared, cutoff_days(log.prepared, tiny_config.refit_days))
    _, table = next(tables_by_day(log.prepared, past, np.array([day])))
    catalogue = with_factors(tiny_run.catalogue, table.factors)
    bundle = read_bundle(tiny_export.bundle)
    write_snapshot(tmp_path / "snapshot", catalogue, table, log.schema)
    graphs = open_graphs(bundle, threads=1)
    build_product_store(bundle, graphs, tmp_path / "snapshot", tmp_path / "products")
    reranker = Reranker.open(tiny_export.bundle, tmp_path / "products", threads=1)
    server = RerankServer(
        reranker, workers=1, timeout=timedelta(seconds=60), max_message_bytes=4 << 20
    )
    port = await server.start("localhost", 0)
    ids = [record["id"] for record in catalogue.records]
    try:
        async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
            stub = RerankServiceStub(channel)
            for page in pages.tolist():
                surface = log.schema.surfaces[log.selection.surfaces[page]]
                logits = score_pages(tiny_run.ranker, catalogue, log, np.array([page]))
                wanted = served_scores(
                    logits,
                    log.categories[rows_of(log, np.array([page]))],
                    tiny_run.calibration,
                    tiny_run.objective_weights[surface],
                )
                response = await stub.Rerank(request_of(search_page(log, page, ids)))
                assert not response.degraded
                ranks = np.array(response.retrieval_ranks)
                np.testing.assert_allclose(response.scores, wanted[ranks], atol=1e-5)
                assert sorted(ranks.tolist()) == list(range(wanted.size))
                assert (np.diff(response.scores) <= 0).all()
    finally:
        await server.stop(timedelta(seconds=1))
    assert pages.size > 3


def test_calibration_is_set_in_the_network_and_fitted_on_validation_pages_alone(
    tiny_run, tiny_ranker, tiny_catalogue, tiny_log
):
    first = calibrate(tiny_ranker, tiny_catalogue, tiny_log, tiny_run.config.surfaces)
    slope = tiny_ranker.calibration._slope.numpy()
    np.testing.assert_array_equal(slope, first.scale)
    assert slope.shape == (len(tiny_log.schema.categories), 3)
    labels = np.array(tiny_log.labels)
    rows = np.repeat(tiny_log.splits, np.diff(tiny_log.offsets))
    labels[rows != 1] = 0
    only = replace(tiny_log, labels=labels)
    again = calibrate(tiny_ranker, tiny_catalogue, only, tiny_run.config.surfaces)
    np.testing.assert_array_equal(first.scale, again.scale)
    np.testing.assert_array_equal(first.bias, again.bias)


def test_calibrated_probabilities_of_mixed_pages_sum_to_the_purchases_there_were(tiny_run):
    log = tiny_run.log
    pages = log.pages_of("validation", "promotion")
    logits = score_pages(tiny_run.ranker, tiny_run.catalogue, log, pages)
    rows = rows_of(log, pages)
    expected = tiny_run.calibration.probabilities(logits, log.categories[rows])[:, 0].sum()
    assert expected == pytest.approx(log.labels[rows, 0].sum(), rel=0.1)


def test_without_mixed_pages_all_surfaces_are_calibrated(tiny_run, tiny_ranker, tiny_catalogue):
    log = tiny_run.log
    surfaces = ("search", "discovery")
    calibration = calibrate(tiny_ranker, tiny_catalogue, log, surfaces)
    pages = np.concatenate([log.pages_of("validation", surface) for surface in surfaces])
    logits = score_pages(tiny_ranker, tiny_catalogue, log, pages)
    rows = rows_of(log, pages)
    expected = calibration.probabilities(logits, log.categories[rows])[:, 0].sum()
    assert expected == pytest.approx(log.labels[rows, 0].sum(), rel=0.1)


def test_every_surface_gets_weights_and_one_without_pages_ranks_by_purchase(tiny_run):
    assert set(tiny_run.objective_weights) == set(tiny_run.log.schema.surfaces)
    for weights in tiny_run.objective_weights.values():
        assert tuple(weights) == tiny_run.log.schema.objectives
        assert sum(weights.values()) == pytest.approx(1.0)
    assert tiny_run.objective_weights["home"] == {"purchase": 1.0, "trial": 0.0, "discount": 0.0}


def test_the_weights_chosen_are_those_that_rank_best(tiny_log):
    """A head that knows the purchases is chosen, whichever it is."""
    held = encoded_pages(tiny_log, "validation", "search")
    neutral = Calibration(np.ones((40, 3), np.float32), np.zeros((40, 3), np.float32))
    purchases = held.objective("purchase")
    for column, name in enumerate(held.objectives):
        knowing = np.repeat(-4 * purchases[:, None], 3, axis=1).astype(np.float32)
        knowing[:, column] = 4 * purchases
        chosen = best_weights(held, knowing, neutral)
        assert chosen == {other: float(other == name) for other in held.objectives}


def test_of_weights_that_rank_alike_the_first_objective_alone_is_chosen(tiny_log):
    held = encoded_pages(tiny_log, "validation", "search")
    neutral = Calibration(np.ones((40, 3), np.float32), np.zeros((40, 3), np.float32))
    alike = np.repeat(held.objective("purchase")[:, None], 3, axis=1).astype(np.float32)
    assert best_weights(held, alike, neutral) == {"purchase": 1.0, "trial": 0.0, "discount": 0.0}


def test_weights_are_each_objective_alone_and_each_two_together():
    combinations = [tuple(w.values()) for w in weight_combinations(("click", "cart", "purchase"))]
    assert combinations[0] == (1.0, 0.0, 0.0)
    assert len(set(combinations)) == len(combinations) == 6
    assert {(0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5)} < set(combinations)
    assert all(sum(weights) == 1 for weights in combinations)
    assert list(weight_combinations(("purchase",))) == [{"purchase": 1.0}]


def test_tasks_are_the_surfaces_that_have_test_pages(tiny_log):
    surfaces = ("search", "discovery", "promotion", "home")
    assert log_tasks(tiny_log, surfaces) == {
        "Search": "search",
        "Discovery": "discovery",
        "Promotion": "promotion",
    }
    with pytest.raises(EvaluationError, match="test pages: got none of home, want at least one"):
        log_tasks(tiny_log, ("home",))


def test_promotion_pages_mix_categories_and_search_pages_do_not(tiny_log):
    surfaces = ("search", "discovery", "promotion", "home")
    assert mixed_surfaces(tiny_log, "validation", surfaces) == ("promotion",)


def test_an_objective_that_never_happened_keeps_its_logits(tiny_run, tiny_ranker, tiny_catalogue):
    labels = np.array(tiny_run.log.labels)
    labels[:, 2] = 0
    log = replace(tiny_run.log, labels=labels)
    calibration = calibrate(tiny_ranker, tiny_catalogue, log, tiny_run.config.surfaces)
    assert (calibration.scale[:, 2] == 1).all()
    assert (calibration.bias[:, 2] == 0).all()
    assert not (calibration.scale[:, 0] == 1).all()


def test_weights_of_a_log_without_a_trial_head_are_purchase_alone(tiny_run):
    log = with_objectives(tiny_run.log, ("purchase",))
    chosen = choose_weights(
        tiny_run.ranker, tiny_run.catalogue, log, tiny_run.calibration, ("search",)
    )
    assert chosen["search"] == {"purchase": 1.0}

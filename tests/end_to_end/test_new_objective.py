"""Objectives added to a shop's log with TOML alone are learned, judged, exported and served."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest

from rerank_server.contract.bundle import Bundle, read_bundle
from rerank_server.onnx_graph import open_graphs
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.rerank_pb2_grpc import RerankServiceStub
from rerank_server.product_build import build_product_store
from rerank_server.reranker import Reranker
from rerank_server.server import RerankServer
from tests.trainer.objective_shop import RUN, write_shop
from tests.trainer.pages_by_id import request_of, search_page
from trainer.__main__ import main
from trainer.config import read_config
from trainer.pipeline import Run, prepare_and_encode, run_training
from trainer.reports.run_report import OBJECTIVES, rebuild_report

NAMES = ("click", "purchase", "dwell", "stars", "units", "spend")


@dataclass(frozen=True)
class Shop:
    work: Path
    run: Run
    bundle: Bundle
    told: str


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Shop:
    folder = tmp_path_factory.mktemp("objective-shop")
    path = write_shop(folder)
    work = folder / "work"
    given = ["--config", str(path), "--work", str(work)]
    out = io.StringIO()
    with redirect_stdout(out):
        assert main(["evaluate", *given, "--trade-off", "click", "dwell"]) == 0
        assert main(["export", *given]) == 0
    config = read_config(path)
    log = prepare_and_encode(path, config, work, progress=False)
    run = run_training(config, log, work, progress=False)
    bundle = read_bundle(work / "bundle")
    build_product_store(
        bundle, open_graphs(bundle, threads=1), work / "snapshot", work / "products"
    )
    return Shop(work, run, bundle, out.getvalue())


@pytest.fixture(scope="module")
def objectives(shop):
    return json.loads((shop.run.folder / OBJECTIVES).read_text(encoding="utf-8"))


def test_the_labels_are_what_the_events_say(shop):
    labels = dict(zip(shop.run.log.schema.objectives, shop.run.log.labels.T, strict=True))
    assert tuple(labels) == NAMES
    assert set(np.unique(labels["click"])) == {0, 1}
    assert ((labels["dwell"] > 0) == (labels["click"] > 0)).all()
    assert set(np.unique(labels["units"])) == {0, 1, 2, 3}
    np.testing.assert_allclose(labels["spend"], 2.5 * labels["units"])
    assert set(np.unique(labels["stars"])) <= {0, 1, 2, 3, 4, 5}


def test_the_bundle_tells_what_each_objective_serves(shop):
    outputs = {output.name: output for output in shop.bundle.manifest.objectives}
    assert tuple(outputs) == NAMES == shop.bundle.schema.objectives
    kinds = [(output.type, output.kind, output.unit) for output in outputs.values()]
    assert kinds == [
        ("binary", "probability", ""),
        ("binary", "probability", ""),
        ("dwell", "amount", "seconds"),
        ("graded", "gain_share", ""),
        ("count", "amount", ""),
        ("value", "amount", "EUR"),
    ]
    assert outputs["purchase"].meaning == "probability of purchase and click"
    assert outputs["dwell"].meaning == "expected dwell in seconds given click"


def test_amounts_are_served_in_their_own_unit(shop, objectives):
    rows = {row["objective"]: row for row in objectives["figures"]["Search"]}
    assert list(rows) == list(NAMES)
    assert rows["dwell"]["metric"] == "rmse_log1p"
    assert rows["stars"]["metric"] == "ndcg@5"
    for name in ("dwell", "stars", "units", "spend"):
        assert rows[name]["served"] == pytest.approx(rows[name]["seen"], rel=0.3), name
    # better than the best one number for all
    dwell = shop.run.log.labels[:, NAMES.index("dwell")]
    assert rows["dwell"]["value"]["mean"] < 0.9 * np.log1p(dwell[dwell > 0]).std()


def test_dwell_is_learned_candidate_by_candidate(shop):
    log = shop.run.log
    ids = [record["id"] for record in shop.run.catalogue.records]
    reranker = Reranker.open(shop.work / "bundle", shop.work / "products", threads=1)
    agreement = []
    for index in log.pages_of("test", "search")[:20].tolist():
        page = search_page(log, index, ids)
        ranked = reranker.rerank(page)
        scores = dict(zip(page.candidate_ids, page.retrieval_scores, strict=True))
        dwell = ranked.probabilities[:, NAMES.index("dwell")]
        agreement.append(np.corrcoef(dwell, [scores[name] for name in ranked.candidate_ids])[0, 1])
    assert np.mean(agreement) > 0.5


def test_a_curve_of_two_objectives_is_written_and_drawn(shop, objectives):
    (curve,) = objectives["trade_offs"]
    assert curve["objectives"] == ["click", "dwell"]
    points = curve["points"]
    assert [point["share"] for point in points] == pytest.approx(np.linspace(0, 1, 11).tolist())
    assert any(point["best"] for point in points)
    alone = {end: points[place] for end, place in (("click", 0), ("dwell", -1))}
    assert alone["click"]["weights"]["dwell"] == 0
    assert alone["dwell"]["weights"]["click"] == 0
    assert alone["dwell"]["second"]["mean"] > alone["click"]["second"]["mean"]
    for text in ("click against dwell on Search", "dwell alone", "expected spend in EUR"):
        assert text in (shop.run.folder / "report.html").read_text(encoding="utf-8")
    assert "click against dwell on Search" in shop.told
    rebuild_report(shop.run.folder)
    assert "dwell alone" in (shop.run.folder / "report.html").read_text(encoding="utf-8")


async def test_the_server_orders_by_a_weight_on_a_new_objective(shop):
    log = shop.run.log
    ids = [record["id"] for record in shop.run.catalogue.records]
    reranker = Reranker.open(shop.work / "bundle", shop.work / "products", threads=1)
    server = RerankServer(
        reranker, workers=1, timeout=timedelta(seconds=60), max_message_bytes=4 << 20
    )
    port = await server.start("localhost", 0)
    try:
        async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
            stub = RerankServiceStub(channel)
            status = await stub.GetServerStatus(pb.GetServerStatusRequest())
            assert tuple(status.objectives) == NAMES
            request = request_of(search_page(log, int(log.pages_of("test", "search")[0]), ids))
            request.objective_weights["dwell"] = 1.0
            response = await stub.Rerank(request)
            columns = {c.objective: np.array(c.probabilities) for c in response.objectives}
            assert not response.degraded
            np.testing.assert_allclose(response.scores, columns["dwell"], rtol=1e-6)
            assert (np.diff(columns["dwell"]) <= 0).all()
            assert (columns["purchase"] <= columns["click"] + 1e-6).all()
            assert columns["dwell"].max() > 1  # seconds, not a share of something
            request.objective_weights["dwel"] = 1.0
            with pytest.raises(grpc.aio.AioRpcError, match=r"got 'dwel'.*nearest: dwell"):
                await stub.Rerank(request)
    finally:
        await server.stop(timedelta(seconds=1))


@pytest.mark.parametrize("gate", ["mmoe", "ple"])
def test_a_gate_of_experts_trains_on_the_same_configuration(shop, tmp_path, gate):
    text = RUN.replace("epochs = 4", "epochs = 1\nmax_pages = 24\nexperts = 2")
    path = write_shop(tmp_path, run=f'gate = "{gate}"\n{text}')
    config = read_config(path)
    run = run_training(config, shop_log(shop), tmp_path, progress=False)
    names = [name for name, _ in run.ranker.named_parameters()]
    assert any("_experts" in name for name in names)
    assert np.isfinite(run.result.progress.best)


def shop_log(shop: Shop):
    path = shop.work.parent / "run.toml"
    return prepare_and_encode(path, read_config(path), shop.work, progress=False)

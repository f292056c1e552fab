"""The whole way: log, preparation, encoding, training, export, store, server, a reranked page."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest

from rerank_server.contract.bundle import read_bundle
from rerank_server.convert import page_from_pb
from rerank_server.onnx_graph import open_graphs
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.rerank_pb2_grpc import RerankServiceStub
from rerank_server.product_build import build_product_store
from rerank_server.reranker import Reranker
from rerank_server.server import RerankServer
from tests.trainer.pages_by_id import request_of, search_page
from trainer.config import read_config
from trainer.pipeline import export_run, first_test_day, prepare_and_encode, run_training

TINY_CONFIG = Path(__file__).parents[2] / "trainer" / "configs" / "tiny.toml"


@pytest.mark.slow
async def test_a_log_becomes_a_reranked_page(tmp_path):
    config = read_config(TINY_CONFIG)
    log = prepare_and_encode(TINY_CONFIG, config, tmp_path, progress=False)
    run = run_training(config, log, tmp_path, progress=False)
    day = first_test_day(log.prepared)
    bundle = export_run(run, None, tmp_path, day)
    count = build_product_store(
        bundle, open_graphs(bundle, threads=1), tmp_path / "snapshot", tmp_path / "products"
    )
    ids = [record["id"] for record in run.catalogue.records]
    assert count == len(ids)

    reranker = Reranker.open(tmp_path / "bundle", tmp_path / "products", threads=1)
    server = RerankServer(
        reranker, workers=1, timeout=timedelta(seconds=60), max_message_bytes=4 << 20
    )
    port = await server.start("localhost", 0)
    moved = 0
    try:
        async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
            stub = RerankServiceStub(channel)
            status = await stub.GetServerStatus(pb.GetServerStatusRequest())
            assert status.bundle_id == read_bundle(tmp_path / "bundle").manifest.bundle_id
            assert status.as_of_day == day
            assert status.products == count
            for surface in config.surfaces:
                for index in log.pages_of("test", surface)[-3:].tolist():
                    page = search_page(log, index, ids)
                    ranked = reranker.rerank(page)
                    response = await stub.Rerank(request_of(page))
                    # in process equals over the wire
                    assert not response.degraded
                    assert list(response.candidate_ids) == list(ranked.candidate_ids)
                    np.testing.assert_array_equal(
                        np.array(response.scores, np.float32), ranked.scores
                    )
                    for column, objective in enumerate(response.objectives):
                        np.testing.assert_array_equal(
                            np.array(objective.probabilities, np.float32),
                            ranked.probabilities[:, column],
                        )
                    assert sorted(response.candidate_ids) == sorted(page.candidate_ids)
                    assert (np.diff(ranked.scores) <= 0).all()
                    moved += list(response.candidate_ids) != list(page.candidate_ids)
    finally:
        await server.stop(timedelta(seconds=1))
    assert moved > 0

    unseen = request_of(search_page(log, int(log.pages_of("test", "search")[0]), ids))
    del unseen.candidate_ids[:]
    unseen.candidate_ids.extend(f"never seen {n}" for n in range(len(unseen.retrieval_scores)))
    answer = reranker.rerank(page_from_pb(unseen))
    assert not answer.degraded
    assert len(answer.candidate_ids) == len(unseen.candidate_ids)

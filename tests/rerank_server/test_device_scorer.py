"""Scoring bound to a device, tried with tensors of the CPU: the same scores by row numbers."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from rerank_server.contract.bundle import write_bundle
from rerank_server.contract.errors import BundleError
from rerank_server.contract.golden import golden_scorer_pages
from rerank_server.device_products import DeviceProducts
from rerank_server.device_scorer import (
    DeviceError,
    DeviceScorer,
    check_device,
    open_device,
    providers_of,
)
from rerank_server.gather_graph import gather_graph
from rerank_server.live_products import LiveProducts
from rerank_server.onnx_graph import open_graphs
from rerank_server.page import SearchPage, ShopperHistory
from rerank_server.product_store import ProductStore
from rerank_server.product_vectors import held_as
from rerank_server.reranker import Reranker
from tests.rerank_server.changing import product
from tests.rerank_server.tiny_bundle import NOW, tiny_content

IDS = ["gift-1", "milk-2", "nothing", "cat-1", "dog-1", "milk-1"]
HISTORY = ShopperHistory(product_ids=["milk-1", "dog-1"], times=np.array([NOW - 99, NOW - 9]))
PAGE = SearchPage(IDS, query="fresh milk", time=NOW, history=HISTORY)


@pytest.fixture
def bound(tiny_folders) -> Reranker:
    return Reranker.open(tiny_folders.bundle, tiny_folders.products, threads=1, device="cpu-bound")


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_the_gather_graph_reads_masked_rows(kind):
    onnx.checker.check_model(onnx.load_from_string(gather_graph(kind)))
    vectors = np.array([[1.0, -0.5], [2.0, 4.0], [0.0, 8.0]], np.float32)
    held = DeviceProducts(held_as(vectors, kind), None, "cpu")
    feeds = {name: value.numpy() for name, value in held.values.items()}
    for part in ("candidate", "sequence"):
        feeds[f"{part}_rows"] = np.array([[2, 1, 0]], np.int64)
        feeds[f"{part}_mask"] = np.array([[1, 1, 0]], np.float32)
    session = ort.InferenceSession(gather_graph(kind), providers=["CPUExecutionProvider"])
    got = session.run(["candidate_vectors", "sequence_vectors"], feeds)
    want = [[[0, 8], [2, 4], [0, 0]]]
    for vectors_read in got:
        np.testing.assert_allclose(vectors_read, want, atol=8 / 127 / 2)


def test_a_page_scores_as_without_a_device(bound, tiny_reranker):
    want, got = tiny_reranker.rerank(PAGE), bound.rerank(PAGE)
    assert got.candidate_ids == want.candidate_ids
    np.testing.assert_array_equal(got.scores, want.scores)
    assert bound.scorer.provider == "CPUExecutionProvider"


@pytest.mark.parametrize("size", [1, 16, 17, 129, 1_000])
def test_a_shape_that_was_used_before_scores_the_same(bound, tiny_reranker, size):
    ids = [f"other-{number}" for number in range(size - 1)]
    for name in ("milk-1", "dog-1"):  # the second goes into the memory of the first
        page = SearchPage([name, *ids], time=NOW)
        np.testing.assert_array_equal(bound.rerank(page).scores, tiny_reranker.rerank(page).scores)


def test_pages_of_one_call_keep_their_own_scores(bound, tiny_reranker, tiny_bundle):
    graphs = open_graphs(tiny_bundle, threads=1)
    pages = golden_scorer_pages(
        tiny_bundle.golden, tiny_bundle.schema, tiny_bundle.text_encoder, graphs
    )
    alone = [tiny_reranker.scorer.score([page])[0] for page in pages]
    for got, want in zip(bound.scorer.score([*pages, pages[0]]), [*alone, alone[0]], strict=True):
        np.testing.assert_allclose(got, want, atol=1e-7)


def test_texts_and_explanations_are_those_without_a_device(bound, tiny_reranker):
    page = replace(PAGE, explain=True, texts=["", "", "fresh milk", "", "", ""])
    want, got = tiny_reranker.rerank(page), bound.rerank(page)
    np.testing.assert_array_equal(got.scores, want.scores)
    for group, values in want.explanations.items():
        np.testing.assert_allclose(got.explanations[group], values, atol=1e-7)


def test_threads_share_a_scorer(bound, tiny_reranker):
    pages = [SearchPage(IDS[:size], time=NOW) for size in (1, 3, 6)]
    want = [tiny_reranker.rerank(page).scores for page in pages]
    failed = []

    def score() -> None:
        for _ in range(30):
            for page, scores in zip(pages, want, strict=True):
                if not np.array_equal(bound.rerank(page).scores, scores):
                    failed.append(page)

    threads = [threading.Thread(target=score) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_changed_product_is_sent_until_it_is_compacted(bound, tiny_folders, tmp_path):
    plain = Reranker.open(tiny_folders.bundle, tiny_folders.products, threads=1, device="cpu")
    live = LiveProducts(tmp_path / "changes")
    for reranker in (plain, bound):
        live.attach(reranker, tiny_folders.products)
    live.upsert([product("milk-1", 2), product("nothing", 3)], plain.bundle)
    rows = bound.products.rows(IDS)
    assert bound._held.rows(rows) is None
    for _ in ("changed", "compacted"):
        np.testing.assert_array_equal(bound.rerank(PAGE).scores, plain.rerank(PAGE).scores)
        live.compact()
    assert bound._held.rows(bound.products.rows(IDS)).tolist() == [4, 1, 5, 3, 2, 0]
    live.close()


@pytest.mark.parametrize(("kind", "most"), [("float32", 1e-7), ("float16", 1e-4), ("int8", 4e-3)])
def test_the_golden_pages_are_checked_by_row_numbers(tiny_bundle, kind, most):
    scorer = DeviceScorer(tiny_bundle, "cpu-bound", threads=1)
    graphs = open_graphs(tiny_bundle, threads=1)
    assert check_device(tiny_bundle, graphs, scorer, kind) <= most


def test_a_device_that_scores_otherwise_is_refused(tiny_folders, tiny_bundle, tmp_path):
    content = tiny_content()
    content.golden.probabilities[0][0, 0] += 1e-3
    bundle = write_bundle(tmp_path / "bundle", content)
    graphs = open_graphs(bundle, threads=1)
    store = ProductStore.open(tiny_folders.products, tiny_bundle)
    with pytest.raises(BundleError, match="float32 vectors: got a difference of 0"):
        open_device(bundle, graphs, store, "cpu-bound", threads=1)


def test_a_device_that_is_not_there_is_named(tiny_folders):
    with pytest.raises(DeviceError, match="got 'gpu', want one of auto, cpu"):
        providers_of("gpu")
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("there is a GPU")
    for device in ("cuda", "tensorrt", "tensorrt-fp16"):
        with pytest.raises(DeviceError, match=rf"got {device}, want one of what onnxruntime"):
            Reranker.open(tiny_folders.bundle, tiny_folders.products, threads=1, device=device)
    assert providers_of("auto") == ["CPUExecutionProvider"]


def test_a_plain_cpu_binds_nothing(tiny_reranker):
    assert tiny_reranker._held is None
    assert tiny_reranker.scorer.provider == "CPUExecutionProvider"

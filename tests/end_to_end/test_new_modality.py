"""A vector added to a shop's log with TOML alone is learned, exported and served.

So is another text encoder; and a product without the vector is ranked all the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from shutil import copytree

import grpc
import numpy as np
import pytest

from es_plugin_config.catalogue import FieldNames, open_catalogue
from es_plugin_config.vectors import ProductVectors
from rerank_server.bundle_store import BundleStore
from rerank_server.contract.bundle import Bundle, read_bundle
from rerank_server.contract.errors import ProductStoreError
from rerank_server.doors import Doors
from rerank_server.live_products import LiveProducts
from rerank_server.onnx_graph import open_graphs
from rerank_server.pb import admin_pb2
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.admin_pb2_grpc import AdminServiceStub
from rerank_server.pb.rerank_pb2_grpc import RerankServiceStub
from rerank_server.product_build import build_product_store
from rerank_server.product_store import ProductStore
from rerank_server.reranker import Reranker
from rerank_server.server import RerankServer
from tests.trainer.pages_by_id import request_of, search_page
from tests.trainer.tiny_sentences import write_encoder
from tests.trainer.vector_shop import TASTE, WIDTH, vectors, write_shop
from trainer.__main__ import main
from trainer.config import read_config
from trainer.pipeline import Run, export_run, first_test_day, prepare_and_encode, run_training


@dataclass(frozen=True)
class Shop:
    folder: Path
    run: Run
    bundle: Bundle


def learned(folder, *, with_vectors: bool, more: str = "") -> Run:
    path = write_shop(folder, with_vectors=with_vectors)
    log = folder / "log.toml"
    log.write_text(more + log.read_text())
    config = read_config(path)
    return run_training(
        config, prepare_and_encode(path, config, folder, progress=False), folder, progress=False
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Shop:
    folder = tmp_path_factory.mktemp("vector-shop")
    encoder = write_encoder(folder / "encoder")
    run = learned(
        folder,
        with_vectors=True,
        more=f'text_encoder = "encoder/{encoder.name}"\ntext_max_tokens = 12\n',
    )
    bundle = export_run(run, None, folder, first_test_day(run.log.prepared))
    build_product_store(
        bundle, open_graphs(bundle, threads=1), folder / "snapshot", folder / "products"
    )
    return Shop(folder, run, bundle)


def test_the_vector_is_learned(shop, tmp_path):
    without = learned(tmp_path, with_vectors=False)
    figures = [run.result.progress.best for run in (shop.run, without)]
    # a random order of eight with two positives reaches 0.55
    assert figures[1] < 0.65
    assert figures[0] > figures[1] + 0.2


def test_unknown_products_of_the_file_are_counted(shop):
    (entry,) = shop.run.log.prepared.manifest["vectors"]
    assert (entry["name"], entry["width"]) == ("image", WIDTH)
    counts = entry["counts"]
    assert counts["unknown_ids"] == 2
    assert counts["rows"] == counts["products"] + 2
    assert counts["products"] < shop.run.log.prepared.size


def test_the_bundle_names_the_vector_and_has_the_text_encoder_within(shop):
    bundle = read_bundle(shop.folder / "bundle")
    assert [(spec.name, spec.width) for spec in bundle.schema.vectors] == [("image", WIDTH)]
    assert (bundle.manifest.text.max_tokens, bundle.manifest.text.special_tokens) == (12, True)
    assert set(bundle.golden.vectors) == {"image"}
    # the golden products are with and without the vector
    has_one = (bundle.golden.vectors["image"] != 0).any(axis=1)
    assert 0 < has_one.sum() < has_one.size


def test_the_command_tells_what_each_modality_adds(shop, tmp_path, capsys):
    told = ["--config", str(shop.folder / "run.toml"), "--work", str(shop.folder)]
    more = ["--test-pages", "40", "--retrain", "32", "--out", str(tmp_path)]
    assert main(["modalities", *told, *more]) == 0
    shown = capsys.readouterr().out
    assert "What each modality adds" in shown
    value = json.loads((tmp_path / "modalities.json").read_text())
    missing = value["missing_at_serve_time"]
    lost = {name: parts["Search"]["all"] for name, parts in missing.items()}
    assert list(lost) == [
        "text", "category", "attributes", "identity", "behaviour", "image", "prices",
    ]  # fmt: skip
    assert max(lost, key=lambda name: lost[name]["mean"]) == "image"
    assert lost["image"]["low"] > 0.05
    # nothing is known of what these say of the test pages' products
    assert lost["behaviour"]["mean"] == lost["attributes"]["mean"] == 0
    assert set(missing["image"]["Search"]["by_category"]) == {"books", "toys"}
    assert 0.85 < value["coverage"]["image"] < 1
    assert value["coverage"]["text"] == 1
    assert list(value["left_out_of_training"]["differences"]) == [
        "text", "structure", "identity", "behaviour", "image",
    ]  # fmt: skip
    assert "<svg" in (tmp_path / "modalities.html").read_text()


async def test_a_server_ranks_products_with_and_without_the_vector(shop, tmp_path):
    reranker = Reranker.open(shop.folder / "bundle", shop.folder / "products", threads=1)
    live = LiveProducts(tmp_path / "changes")
    live.attach(reranker, shop.folder / "products")
    server = RerankServer(
        BundleStore(reranker, Reranker.open),
        workers=1,
        timeout=timedelta(seconds=60),
        max_message_bytes=4 << 20,
        doors=Doors(admin=True, changes=live),
    )
    port = await server.start("localhost", 0)
    try:
        async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
            stub, admin = RerankServiceStub(channel), AdminServiceStub(channel)
            log, ids = shop.run.log, [record["id"] for record in shop.run.catalogue.records]
            taste = vectors() @ TASTE
            best = 0
            pages = log.pages_of("test", "search")
            for index in pages.tolist():
                answer = await stub.Rerank(request_of(search_page(log, index, ids)))
                assert not answer.degraded
                shown = [int(name[1:]) for name in answer.candidate_ids]
                best += taste[shown[0]] >= sorted(taste[shown])[-2]
            assert best > 0.7 * pages.size
            page = request_of(search_page(log, int(pages[0]), ids))
            await _check_changes(stub, admin, page)
    finally:
        await server.stop(timedelta(seconds=1))
        live.close()


async def _check_changes(stub, admin, page: pb.RerankRequest) -> None:
    """Put products with, without and with a wrong vector into the store."""
    liked = admin_pb2.Vector(values=TASTE.tolist())
    disliked = admin_pb2.Vector(values=(-TASTE).tolist())
    products = [
        admin_pb2.Product(id=name, text="thing", category="toys", category_path=["toys", "all"])
        for name in ("liked", "disliked", "without")
    ]
    products[0].vectors["image"].CopyFrom(liked)
    products[1].vectors["image"].CopyFrom(disliked)
    await admin.UpsertProducts(admin_pb2.UpsertProductsRequest(products=products))
    asked = pb.RerankRequest(
        candidate_ids=["disliked", "without", "liked"], query="thing", time=page.time
    )
    answer = await stub.Rerank(asked)
    scores = dict(zip(answer.candidate_ids, answer.scores, strict=True))
    assert not answer.degraded
    assert scores["liked"] > scores["without"] > 0
    assert scores["liked"] > scores["disliked"]
    for vector, name, message in (
        ([1.0], "image", "vectors.image: got 1 numbers, want a list of 6"),
        ([float("nan")] * WIDTH, "image", "vectors.image: got 'nan', want finite numbers"),
        ([1.0], "imgae", "products[0].vectors: got 'imgae', want some of image (nearest: image)"),
    ):
        wrong = admin_pb2.Product(id="wrong", vectors={name: admin_pb2.Vector(values=vector)})
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await admin.UpsertProducts(admin_pb2.UpsertProductsRequest(products=[wrong]))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert message in (refused.value.details() or "")


def test_a_snapshot_without_the_vector_is_refused(shop, tmp_path):
    copytree(shop.folder / "snapshot", tmp_path / "snapshot")
    (tmp_path / "snapshot" / "vector_image.npy").unlink()
    with pytest.raises(ProductStoreError, match=r"got no vector_image\.npy, want one: the bundle"):
        build_product_store(
            shop.bundle, open_graphs(shop.bundle, threads=1), tmp_path / "snapshot", tmp_path / "o"
        )
    np.save(
        tmp_path / "snapshot" / "vector_image.npy", np.zeros((shop.run.log.prepared.size, 3), "f4")
    )
    with pytest.raises(ProductStoreError, match=r"got width 3, want 6 as in the bundle"):
        build_product_store(
            shop.bundle, open_graphs(shop.bundle, threads=1), tmp_path / "snapshot", tmp_path / "o"
        )


def test_the_vectors_for_retrieval_are_those_of_the_store(shop):
    store = ProductStore.open(shop.folder / "products", shop.bundle)
    catalogue = open_catalogue(shop.folder / "snapshot")
    products = list(islice(catalogue.products(FieldNames(), 0), 50))
    assert {bool(product.vectors["image"].any()) for product in products} == {True, False}
    got = ProductVectors(shop.bundle, threads=1).encode(products)
    np.testing.assert_allclose(got, store.vectors[np.arange(50)], atol=1e-5)

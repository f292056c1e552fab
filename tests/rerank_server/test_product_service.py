"""Products changed over the wire: the next page sees them, and who may change them."""

from __future__ import annotations

import grpc
import pytest

from rerank_server.bundle_store import BundleStore
from rerank_server.doors import Doors
from rerank_server.pb import admin_pb2
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.admin_pb2_grpc import AdminServiceStub
from rerank_server.reranker import Reranker
from rerank_server.tokens import TokenGate
from tests.rerank_server.changing import open_live, version_of
from tests.rerank_server.tiny_bundle import NOW
from tests.rerank_server.token_files import write_tokens

PAGE = pb.RerankRequest(candidate_ids=["dog-1", "new", "milk-1"], time=NOW)
NEW = admin_pb2.Product(
    id="new",
    text="fresh milk",
    category="dairy",
    category_path=["fluid milk", "milk"],
    attributes={"brand": "Acme"},
    columns={"price": 3.0, "sales_28d": 6.0},
)


@pytest.fixture
async def shop(serving, tiny_folders, tmp_path):
    """A server that takes changes, and the admin stub of a caller on this machine."""
    reranker, live = open_live(tiny_folders, tmp_path / "changes")
    running = await serving(
        BundleStore(reranker, Reranker.open), doors=Doors(admin=True, changes=live)
    )
    yield running, AdminServiceStub(running.channel), reranker
    live.close()


async def test_the_page_after_an_upsert_sees_the_product(shop):
    running, admin, reranker = shop
    before = await running.stub.Rerank(PAGE)
    answer = await admin.UpsertProducts(admin_pb2.UpsertProductsRequest(products=[NEW]))
    assert (answer.change, answer.products) == (1, 6)
    after = await running.stub.Rerank(PAGE)
    assert version_of(reranker.products, "new") == 3
    scores = [dict(zip(page.candidate_ids, page.scores, strict=True)) for page in (before, after)]
    assert scores[0]["new"] != scores[1]["new"]
    assert scores[0]["dog-1"] == scores[1]["dog-1"]
    answer = await admin.DeleteProducts(admin_pb2.DeleteProductsRequest(product_ids=["new"]))
    assert (answer.change, answer.products) == (2, 5)
    gone = await running.stub.Rerank(PAGE)
    assert list(gone.scores) == list(before.scores)


async def test_what_is_absent_is_missing(shop):
    _, admin, reranker = shop
    bare = admin_pb2.Product(id="bare")
    await admin.UpsertProducts(admin_pb2.UpsertProductsRequest(products=[bare]))
    row = reranker.products.rows(["bare"])
    table = reranker.products.table
    assert str(table.stats[row].tolist()) == "[[nan, nan]]"
    assert (table.categories[row].tolist(), table.attributes[row].tolist()) == ([0], [[0, 0]])


@pytest.mark.parametrize(
    ("product", "message"),
    [
        (admin_pb2.Product(), "products[0]: got id '', want a text of 1 to 256 bytes"),
        (
            admin_pb2.Product(id="a", columns={"prize": 1}),
            "products[0].columns: got 'prize', want some of price, sales_28d (nearest: price)",
        ),
        (
            admin_pb2.Product(id="a", attributes={"colour": "red"}),
            "products[0].attributes: got 'colour', want some of brand, size",
        ),
        (
            admin_pb2.Product(id="a", columns={"price": float("inf")}),
            "products[0]: price: got inf, want a finite number (float32) or null",
        ),
    ],
)
async def test_a_product_that_breaks_a_rule_is_refused(shop, product, message):
    _, admin, reranker = shop
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await admin.UpsertProducts(admin_pb2.UpsertProductsRequest(products=[product]))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == message
    assert reranker.products.size == 5


async def test_the_status_says_what_is_stored_and_resident(shop):
    running, admin, _ = shop
    await admin.UpsertProducts(admin_pb2.UpsertProductsRequest(products=[NEW]))
    status = await running.stub.GetServerStatus(pb.GetServerStatusRequest())
    store = status.store
    assert (status.products, store.vectors) == (6, "float32")
    assert (store.changes_in_files, store.changes_in_memory) == (0, 1)
    assert store.resident_private_bytes > 10_000_000
    assert store.resident_file_bytes > 10_000_000


async def test_a_server_without_a_log_takes_no_changes(serving, tiny_reranker):
    running = await serving(tiny_reranker, doors=Doors(admin=True))
    admin = AdminServiceStub(running.channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await admin.UpsertProducts(admin_pb2.UpsertProductsRequest(products=[NEW]))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "want one with --changes" in (refused.value.details() or "")


async def test_a_full_disk_is_unavailable_and_changes_nothing(shop, monkeypatch):
    running, admin, reranker = shop
    database = running.server.doors.changes.log._database
    database.execute("PRAGMA max_page_count=1")
    big = admin_pb2.Product(id="big", text="milk " * 100_000)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await admin.UpsertProducts(admin_pb2.UpsertProductsRequest(products=[NEW, big]))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "database or disk is full" in (refused.value.details() or "")
    assert reranker.products.size == 5
    assert not (await running.stub.Rerank(PAGE)).degraded


@pytest.mark.parametrize(
    ("more", "want"), [("", grpc.StatusCode.PERMISSION_DENIED), ("admin = true\n", None)]
)
async def test_only_an_admin_token_may_change_products(serving, tiny_folders, tmp_path, more, want):
    (secret,) = write_tokens(tmp_path / "tokens.toml", "shop", more=more)
    reranker, live = open_live(tiny_folders, tmp_path / "changes")
    doors = Doors(admin=True, changes=live, gate=TokenGate(tmp_path / "tokens.toml"))
    running = await serving(reranker, doors=doors)
    call = AdminServiceStub(running.channel).UpsertProducts(
        admin_pb2.UpsertProductsRequest(products=[NEW]),
        metadata=(("authorization", f"Bearer {secret}"),),
    )
    if want is None:
        assert (await call).products == 6
    else:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is want
        assert reranker.products.size == 5
    live.close()

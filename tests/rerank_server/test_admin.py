"""The admin service on the wire, and hundreds of changes of the bundle under load."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]
    reflection_pb2,
    reflection_pb2_grpc,
)

from rerank_server.bundle_store import BundleStore
from rerank_server.doors import Doors
from rerank_server.pb import admin_pb2
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.admin_pb2_grpc import AdminServiceStub
from rerank_server.reranker import Reranker
from rerank_server.server import ADMIN_SERVICE_NAME
from tests.rerank_server.tiny_bundle import NOW

IDS = ["dog-1", "milk-2", "milk-1"]
PAGE = pb.RerankRequest(candidate_ids=IDS, retrieval_scores=[3, 2, 1], time=NOW)


def open_reranker(bundle, products) -> Reranker:
    return Reranker.open(bundle, products, threads=1)


@pytest.fixture
async def admin_server(serving, tiny_reranker):
    # what is asked here is whether pages fail, not how fast this machine answers them
    return await serving(
        BundleStore(tiny_reranker, open_reranker),
        doors=Doors(admin=True),
        timeout=timedelta(seconds=60),
    )


@pytest.fixture
def admin(admin_server):
    return AdminServiceStub(admin_server.channel)


def load_request(folders) -> admin_pb2.LoadBundleRequest:
    return admin_pb2.LoadBundleRequest(
        bundle_path=str(folders.bundle), products_path=str(folders.products)
    )


async def status_of(running):
    return await running.stub.GetServerStatus(pb.GetServerStatusRequest())


async def test_a_bundle_is_loaded_promoted_and_rolled_back(admin_server, admin, other_folders):
    one = (await status_of(admin_server)).bundle_id
    loaded = await admin.LoadBundle(load_request(other_folders))
    other = loaded.bundles.challenger_id
    assert loaded.bundles == admin_pb2.HeldBundles(current_id=one, challenger_id=other)
    assert (await admin_server.stub.Rerank(PAGE)).bundle_id == one
    promoted = await admin.PromoteBundle(admin_pb2.PromoteBundleRequest())
    assert promoted.bundles == admin_pb2.HeldBundles(current_id=other, previous_id=one)
    assert (await admin_server.stub.Rerank(PAGE)).bundle_id == other
    assert (await status_of(admin_server)).bundle_id == other
    back = await admin.RollBackBundle(admin_pb2.RollBackBundleRequest())
    assert back.bundles == admin_pb2.HeldBundles(current_id=one, previous_id=other)
    assert (await admin_server.stub.Rerank(PAGE)).bundle_id == one


async def test_the_status_says_what_a_canary_and_a_shadow_did(admin_server, admin, other_folders):
    assert not (await status_of(admin_server)).HasField("challenger")
    other = (await admin.LoadBundle(load_request(other_folders))).bundles.challenger_id
    await admin.DivertPages(admin_pb2.DivertPagesRequest(canary_percent=30, shadow=True))
    answers = {}
    for number in range(100):
        request = pb.RerankRequest()
        request.CopyFrom(PAGE)
        request.shopper_id = f"shopper {number}"
        answers[number] = (await admin_server.stub.Rerank(request)).bundle_id
    tried = (await status_of(admin_server)).challenger
    canary = sum(bundle_id == other for bundle_id in answers.values())
    assert 15 <= canary <= 45
    assert tried.bundle_id == other
    assert (tried.canary_percent, tried.shadow) == (30.0, True)
    assert (tried.canary_pages, tried.canary_degraded) == (canary, 0)
    for _ in range(100):
        tried = (await status_of(admin_server)).challenger
        if tried.shadow_pages + tried.shadow_skipped == 100 - canary:
            break
        await asyncio.sleep(0.02)
    assert tried.shadow_pages + tried.shadow_skipped == 100 - canary
    assert tried.shadow_pages > 0
    assert tried.rank_agreement == -1.0
    assert tried.same_first_share == 0.0
    assert 0 < tried.challenger_p50_us <= tried.challenger_p99_us
    assert 0 < tried.current_p50_us <= tried.current_p99_us


async def test_a_broken_bundle_is_refused_with_its_reason(admin_server, admin, broken_copy):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await admin.LoadBundle(load_request(broken_copy("scorer.onnx")))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "scorer.onnx: got sha256" in (caught.value.details() or "")
    assert not (await admin_server.stub.Rerank(PAGE)).degraded


@pytest.mark.parametrize(
    ("method", "request_pb"),
    [
        ("PromoteBundle", admin_pb2.PromoteBundleRequest()),
        ("RollBackBundle", admin_pb2.RollBackBundleRequest()),
        ("DivertPages", admin_pb2.DivertPagesRequest(canary_percent=5)),
    ],
)
async def test_a_change_that_cannot_be_made_is_a_failed_precondition(admin, method, request_pb):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(admin, method)(request_pb)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_without_the_flag_nobody_can_change_a_bundle(tiny_server, other_folders):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await AdminServiceStub(tiny_server.channel).LoadBundle(load_request(other_folders))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("admin_on", [False, True])
async def test_reflection_lists_the_service_only_when_it_answers(serving, tiny_reranker, admin_on):
    running = await serving(tiny_reranker, doors=Doors(admin=admin_on))
    stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async for answer in stub.ServerReflectionInfo(iter([request])):
        names = {service.name for service in answer.list_services_response.service}
        assert (ADMIN_SERVICE_NAME in names) is admin_on


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def opened(folder: Path) -> float:
    """How many times the store is mapped into memory, over its files."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    files = [line.split(maxsplit=5)[5] for line in lines if str(folder) in line]
    return len(files) / len(set(files)) if files else 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_300_changes_under_load_fail_no_page_and_keep_no_memory(
    admin_server, admin, tiny_folders, other_folders
):
    swaps, callers = 300, 8
    folders_of_both = (tiny_folders.products, other_folders.products)
    gc.collect()  # an earlier test's stores must not be freed while this one counts
    before = [opened(folder) for folder in folders_of_both]  # what other tests hold
    answered: Counter[str] = Counter()  # pages by bundle
    stopping = False

    async def call(number: int) -> None:
        request = pb.RerankRequest()
        request.CopyFrom(PAGE)
        while not stopping:
            request.shopper_id = f"shopper {number} {answered.total()}"
            response = await admin_server.stub.Rerank(request, timeout=60)
            assert not response.degraded, response.degraded_detail
            assert sorted(response.candidate_ids) == sorted(IDS)
            answered[response.bundle_id] += 1

    calls = [asyncio.ensure_future(call(number)) for number in range(callers)]
    resident = []
    for swap in range(swaps):
        folders = other_folders if swap % 2 == 0 else tiny_folders
        await admin.LoadBundle(load_request(folders))
        await admin.DivertPages(
            admin_pb2.DivertPagesRequest(canary_percent=50, shadow=swap % 3 == 0)
        )
        if swap % 5 == 4:
            await admin.RollBackBundle(admin_pb2.RollBackBundleRequest())
            await admin.LoadBundle(load_request(folders))
        await admin.PromoteBundle(admin_pb2.PromoteBundleRequest())
        if swap % 10 == 9:
            resident.append(resident_bytes())
    stopping = True
    await asyncio.gather(*calls)
    assert answered.total() > swaps
    assert len(answered) == 2
    third = len(resident) // 3
    growth = max(resident[-third:]) - max(resident[third:-third])
    assert growth < 16 * 1024 * 1024, [size >> 20 for size in resident]
    # current and previous are held, one of each folder
    assert [opened(folder) for folder in folders_of_both] == [count + 1 for count in before]

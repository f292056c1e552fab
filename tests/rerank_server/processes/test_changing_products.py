"""Products that change in a server of several processes: every one shows what was acknowledged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from rerank_server.onnx_graph import open_graphs
from rerank_server.pb import admin_pb2
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.admin_pb2_grpc import AdminServiceStub
from rerank_server.pb.rerank_pb2_grpc import RerankServiceStub
from rerank_server.product_build import build_product_store
from rerank_server.product_changes import ChangeLog
from tests.rerank_server.conftest import TinyFolders
from tests.rerank_server.processes.group import CONNECTIONS, PAGE, Group, runs, serve_group
from tests.rerank_server.processes.killed_processes import kill_again_and_again
from tests.rerank_server.tiny_bundle import NOW, PRODUCTS, write_tiny_snapshot


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("changing")


@pytest.fixture(scope="module")
def folders(tiny_folders, work):
    """The tiny folders with a store of the tests' own."""
    shutil.copytree(tiny_folders.products, work / "products")
    return TinyFolders(tiny_folders.bundle, work / "products", tiny_folders.snapshot)


@pytest.fixture(scope="module")
def group(folders, work) -> Iterator[Group]:
    with serve_group(folders, work / "log", "--changes", str(work / "changes")) as running:
        running.wait_for("process serving", 2)
        yield running


@pytest.fixture
def log(group, work) -> Iterator[ChangeLog]:
    opened = ChangeLog(work / "changes")
    yield opened
    opened.close()


def upsert(channel: grpc.Channel, *names: str, price: float = 3.0, timeout: float = 60) -> int:
    """Upsert products and return how many processes were behind."""
    products = [
        admin_pb2.Product(
            id=name, text="milk", category="dairy", columns={"price": price, "sales_28d": 1.0}
        )
        for name in names
    ]
    request = admin_pb2.UpsertProductsRequest(products=products)
    answer = AdminServiceStub(channel).UpsertProducts(request, timeout=timeout)
    return int(answer.processes_behind)


def seen(group: Group, ask: Callable[[RerankServiceStub], object]) -> set[object]:
    """What a question is answered over many connections, which the kernel deals out to all."""
    answers = set()
    for _ in range(CONNECTIONS):
        with group.channel() as channel:
            answers.add(ask(RerankServiceStub(channel)))
    return answers


def products(stub: RerankServiceStub) -> int:
    request = pb.GetServerStatusRequest()
    return int(stub.GetServerStatus(request, timeout=20, wait_for_ready=True).products)


def product_count(group: Group) -> int:
    (count,) = seen(group, products)
    assert isinstance(count, int)
    return count


def in_files(stub: RerankServiceStub) -> int:
    request = pb.GetServerStatusRequest()
    return int(stub.GetServerStatus(request, timeout=20).store.changes_in_files)


def wait_until(group: Group, ask: Callable[[RerankServiceStub], object], want: object) -> None:
    until = time.monotonic() + 60
    while (got := seen(group, ask)) != {want} and time.monotonic() < until:
        time.sleep(0.05)
    assert got == {want}, group.log.read_text()


def test_an_acknowledged_change_is_seen_wherever_the_next_page_is_answered(group):
    first = product_count(group)
    with group.channel() as channel:
        for number in range(1, 6):
            assert upsert(channel, f"new-{number}") == 0
            assert seen(group, products) == {first + number}
        request = admin_pb2.DeleteProductsRequest(product_ids=["new-1", "milk-1"])
        answer = AdminServiceStub(channel).DeleteProducts(request, timeout=60)
        assert (answer.change, answer.products, answer.processes_behind) == (7, first + 3, 0)
    until = time.monotonic() + 20
    shown: set[float | None] = set()
    while shown != {7} and time.monotonic() < until:  # a scrape waits for a busy process for 1 s
        scraped = group.scrape()
        names = [f'crossrank_product_change{{process="{number}"}}' for number in range(2)]
        shown = {scraped.get(name) for name in names}
    assert shown == {7}
    assert seen(group, products) == {first + 3}


def test_processes_that_upsert_the_same_product_agree_in_the_end(group, log):
    def upsert_again(caller: int) -> None:
        for number in range(10):
            with group.channel() as channel:  # now of one process, now of the other
                upsert(channel, "same", "milk-1", price=10 * caller + number + 1)

    def scores(stub: RerankServiceStub) -> tuple[float, ...]:
        page = pb.RerankRequest(candidate_ids=["same", "milk-1", "dog-1"], time=NOW)
        answer = stub.Rerank(page, timeout=20)
        by_id = dict(zip(answer.candidate_ids, answer.scores, strict=True))
        return tuple(by_id[name] for name in page.candidate_ids)

    before, last = seen(group, scores), log.last()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upsert_again, range(4)))
    (after,) = seen(group, scores)
    assert {after} != before
    newest = log.read(last, 10)
    assert [item.sequence - last for item in newest] == [79, 80]  # numbered without a gap
    with group.channel() as channel:  # what is shown is the newest of them
        price = json.loads(newest[0].record or "")["columns"]["price"]
        upsert(channel, "same", "milk-1", price=price)
    assert seen(group, scores) == {after}


def test_a_paused_process_holds_nobody_up_and_its_successor_shows_all(group):
    first, serving = product_count(group), group.count("process serving")
    with group.channel() as channel:
        assert upsert(channel, "first") == 0
        paused = group.another_than_that_of(channel)
        os.kill(paused, signal.SIGSTOP)
        began = time.monotonic()
        assert upsert(channel, "second") == 1  # durable all the same
        assert time.monotonic() - began > 1
        group.wait_for("process is behind with changes of products")
        os.kill(paused, signal.SIGKILL)
        group.wait_for("process serving", serving + 1)
        assert seen(group, products) == {first + 2}
        assert upsert(channel, "third") == 0
        assert seen(group, products) == {first + 3}


def test_a_process_killed_before_it_told_the_others_loses_nothing(group, log):
    """The supervisor is paused, so the change is on disk and nobody was told"""
    first, last, serving = product_count(group), log.last(), group.count("process serving")
    failures: list[grpc.StatusCode] = []

    def upsert_in_vain(channel: grpc.Channel) -> None:
        try:
            upsert(channel, "in-vain")
        except grpc.RpcError as error:
            failures.append(error.code())

    with group.channel() as channel:
        stub = RerankServiceStub(channel)
        stub.Rerank(PAGE, timeout=20)
        other = group.another_than_that_of(channel)
        (caller,) = set(group.children()) - {other}
        for pid in (group.process.pid, other):
            os.kill(pid, signal.SIGSTOP)
        calling = threading.Thread(target=upsert_in_vain, args=(channel,))
        calling.start()
        until = time.monotonic() + 20
        while log.last() == last and time.monotonic() < until:
            time.sleep(0.005)
        os.kill(caller, signal.SIGKILL)
        assert log.last() == last + 1
        calling.join()
        assert failures == [grpc.StatusCode.UNAVAILABLE]
        os.kill(other, signal.SIGCONT)
    while runs(caller):  # its port is closed then: every connection is the other's
        time.sleep(0.01)
    wait_until(group, products, first + 1)
    os.kill(group.process.pid, signal.SIGCONT)
    group.wait_for("process serving", serving + 1)
    assert seen(group, products) == {first + 1}


def test_processes_killed_at_random_moments_lose_nothing_and_agree(group, folders, work):
    seen = kill_again_and_again(group, folders, work / "changes", kills=3)
    assert seen.kills == 3
    assert seen.acknowledged > 3


def test_one_process_compacts_and_both_move_while_pages_are_answered(group):
    first = product_count(group)
    stopping = threading.Event()
    degraded: list[bool] = []

    def call() -> None:
        while not stopping.is_set():
            with group.channel() as channel:
                stub = RerankServiceStub(channel)
                answers = (stub.Rerank(PAGE, timeout=60) for _ in range(20))
                degraded.extend(answer.degraded for answer in answers)

    calling = threading.Thread(target=call)
    calling.start()
    try:
        for start in range(0, 9_000, 1_000):  # more than half of the room
            with group.channel() as channel:
                upsert(channel, *(f"many-{number}" for number in range(start, start + 1_000)))
        group.wait_for("products compacted")
        until = time.monotonic() + 60
        while 0 in (got := seen(group, in_files)) and time.monotonic() < until:
            time.sleep(0.1)
    finally:
        stopping.set()
        calling.join()
    assert 0 not in got
    assert set(degraded) == {False}
    compacted = [one for one in group.messages() if one["message"] == "products compacted"]
    numbers = [one["changes_through"] for one in compacted]
    assert len(numbers) == len(set(numbers))  # none was written by both
    assert seen(group, products) == {first + 9_000}
    with group.channel() as channel:
        assert upsert(channel, "one-more") == 0
    assert seen(group, products) == {first + 9_001}


def test_a_store_built_anew_is_taken_by_every_process_with_the_changes_over_it(
    group, folders, tiny_bundle, work
):
    first, serving = product_count(group), group.count("process serving")
    write_tiny_snapshot(work / "next", PRODUCTS[:3])  # two of the five are gone
    graphs = open_graphs(tiny_bundle, threads=1)
    build_product_store(tiny_bundle, graphs, work / "next", folders.products)
    wait_until(group, products, first - 2)
    os.kill(group.children()[0], signal.SIGKILL)
    group.wait_for("process serving", serving + 1)
    assert seen(group, products) == {first - 2}

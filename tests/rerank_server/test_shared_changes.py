"""Changes of products that several processes take in one folder, at the same moment."""

from __future__ import annotations

import shutil
import threading
import time

import numpy as np
import pytest

from rerank_server.live_products import LiveProducts
from rerank_server.product_records import ProductError
from tests.rerank_server.changing import open_live, product, version_of


@pytest.fixture
def start(tiny_folders, tmp_path):
    opened: list[LiveProducts] = []

    def open_one(**options):
        reranker, live = open_live(tiny_folders, tmp_path / "changes", **options)
        opened.append(live)
        return reranker, live

    yield open_one
    for live in opened:
        live.close()


def test_two_servers_follow_each_other(start):
    one, first = start()
    two, second = start()
    first.upsert([product("a", 3)], one.bundle)
    second.upsert([product("b", 4)], two.bundle)  # takes the other's change on the way
    assert [version_of(two.products, name) for name in "ab"] == [3, 4]
    first.catch_up()
    assert [version_of(one.products, name) for name in "ab"] == [3, 4]
    first.compact()
    second.upsert([product("a", 5)], two.bundle)
    assert second.compact() == 1
    first.catch_up()
    assert [version_of(item.products, "a") for item in (one, two)] == [5, 5]


def test_a_server_whose_base_another_one_removed_goes_on(start):
    one, first = start()
    two, second = start()
    first.upsert([product("a")], one.bundle)
    first.compact()
    second.catch_up()
    assert second.compact() == 1  # both on the first generation
    first.upsert([product("b")], one.bundle)
    assert first.compact() == 1  # a second one, and its own base is gone
    first.upsert([product("c")], one.bundle)
    second.catch_up()
    for _ in range(2):  # to the newest, then a generation of its own
        assert second.compact() == 1
    assert second.compact() == 0
    assert [version_of(two.products, name) for name in "abc"] == [1, 1, 1]


def test_a_backlog_larger_than_the_room_is_compacted_while_serving(start):
    one, first = start()
    two, second = start(spare_rows=8)
    for begin in (0, 20):
        lines = [product(f"p{number}") for number in range(begin, begin + 20)]
        first.upsert(lines, one.bundle)
    second.catch_up()
    assert version_of(two.products, "p1") == 0
    assert second.compact(least_share=0.5) == 1
    assert [version_of(two.products, f"p{number}") for number in (0, 39)] == [1, 1]
    second.upsert([product("p0", 2)], two.bundle)
    assert version_of(two.products, "p0") == 2


def test_a_product_without_a_finite_vector_stops_no_other(start, monkeypatch, caplog):
    one, first = start()
    two, second = start()
    held = second._held[0]
    encode = held.encoder._graph

    def overflowing(inputs):
        answer = dict(encode(inputs))
        vectors = answer["vectors"].copy()
        vectors[inputs["category"] == 2] = np.inf
        return answer | {"vectors": vectors}

    first.upsert([product("bad", 2), product("good", 3)], one.bundle)
    monkeypatch.setattr(held.encoder, "_graph", overflowing)
    second.catch_up()
    assert version_of(two.products, "good") == 3
    row = int(two.products.rows(["bad"])[0])
    assert row != two.products.table.unknown_row
    np.testing.assert_array_equal(two.products.vectors[row], 0)
    assert "got no finite vector of bad" in str([record.__dict__ for record in caplog.records])
    with pytest.raises(ProductError, match="finite"):
        second.upsert([product("worse", 2)], two.bundle)
    second.delete(["bad"])
    assert version_of(two.products, "bad") == 0


def test_while_one_compacts_the_other_leaves_it_alone(start, monkeypatch):
    one, first = start()
    _, second = start()
    first.upsert([product("a")], one.bundle)
    second.catch_up()
    met = []
    written = first._write_compacted

    def meanwhile(*arguments):
        met.append(second.compact())
        return written(*arguments)

    monkeypatch.setattr(first, "_write_compacted", meanwhile)
    assert first.compact() == 1
    assert met == [0]
    assert second.compact() == 1  # takes what the first has written
    assert len(list(first.folder.glob("store-*"))) == 1


def test_what_another_appends_while_one_compacts_is_shown_before_it_is_done(start, monkeypatch):
    one, first = start(spare_rows=8)
    two, second = start(spare_rows=8)
    shown = threading.Event()
    written = first._write_compacted

    def write_slowly(*arguments):
        assert shown.wait(30)  # the compaction ends only once the change is seen
        return written(*arguments)

    monkeypatch.setattr(first, "_write_compacted", write_slowly)
    first.upsert([product(f"p{number}") for number in range(5)], one.bundle)  # more than half

    def exchange(held, store):
        held.take_products(store)
        return held

    first.follow(exchange)
    second.upsert([product("later", 3)], two.bundle)
    until = time.monotonic() + 30
    while not (seen := version_of(one.products, "later")) and time.monotonic() < until:
        time.sleep(0.01)
    shown.set()
    assert seen == 3
    while not list(first.folder.glob("store-*")) and time.monotonic() < until:
        time.sleep(0.01)
    first.close()
    assert [version_of(one.products, name) for name in ("p0", "later")] == [1, 3]


def test_a_change_on_disk_is_not_refused_because_another_took_the_room(start, monkeypatch):
    one, first = start(spare_rows=8)
    two, second = start()
    append = first.log.append

    def append_after_another(changes):
        second.upsert([product(f"p{number}") for number in range(7)], two.bundle)
        return append(changes)

    monkeypatch.setattr(first.log, "append", append_after_another)
    last = first.upsert([product("a", 3), product("b", 5)], one.bundle)
    assert (last, first.log.last()) == (9, 9)
    assert not first.shows(last)  # so the answer counts this process among those behind
    assert first.compact(least_share=0.5) == 1
    assert first.shows(last)
    assert [version_of(one.products, name) for name in ("a", "b", "p6")] == [3, 5, 1]


def test_where_the_compacted_store_was_removed_the_catalogues_is_compacted_again(start):
    one, first = start()
    first.upsert([product("a")], one.bundle)
    first.delete(["milk-1"])
    first.compact()
    (compacted,) = first.folder.glob("store-*")
    shutil.rmtree(compacted)  # a copy, which may go
    first.upsert([product("b", 2)], one.bundle)
    assert first.compact() == 1
    assert [version_of(one.products, name) for name in ("a", "b", "milk-1")] == [1, 2, 0]
    again, _ = start()
    assert again.products.size == one.products.size == 6

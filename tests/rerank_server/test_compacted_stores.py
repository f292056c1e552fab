"""The compacted stores of a folder: which is the newest, what is removed, and whose turn it is."""

from __future__ import annotations

import logging
import os
import threading
import time

import pytest

from rerank_server.compacted_stores import CompactedStores
from rerank_server.contract.errors import ProductStoreError

ORIGIN, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def stores(tmp_path):
    return CompactedStores(tmp_path)


def test_a_copy_that_a_person_named_is_neither_taken_nor_in_the_way(stores, tiny_bundle):
    for through in (3, 7):
        stores.path(ORIGIN, tiny_bundle, through).mkdir()
    newest = stores.path(ORIGIN, tiny_bundle, 7)
    copy = newest.with_name(f"{newest.name}.bak")
    copy.mkdir()
    assert stores.newest(ORIGIN, tiny_bundle) == (7, newest)
    stores.remove_old(ORIGIN, tiny_bundle, 7, used=())
    assert set(newest.parent.glob("store-*")) == {newest, copy}


def test_stores_of_other_builds_stay_a_week_and_those_in_use_longer(stores, tiny_bundle):
    new, old, used = (stores.path(OTHER, tiny_bundle, number) for number in (1, 2, 3))
    for path in (new, old, used):
        path.mkdir()
    for path in (old, used):
        os.utime(path, (time.time() - 8 * 86_400,) * 2)
    stores.remove_old(ORIGIN, tiny_bundle, 7, used=[used])
    assert (new.exists(), old.exists(), used.exists()) == (True, False, True)


def test_one_at_a_time_and_who_waits_says_so(stores, caplog):
    order: list[str] = []

    def wait() -> None:
        with stores.alone(wait=True) as alone:
            assert alone
            order.append("second")

    caplog.set_level(logging.INFO)
    with stores.alone() as alone:
        assert alone
        with stores.alone() as another:
            assert not another
        waiting = threading.Thread(target=wait)
        waiting.start()
        until = time.monotonic() + 20
        while "waiting for another process's compaction" not in caplog.text:
            assert time.monotonic() < until
            time.sleep(0.005)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_a_folder_that_takes_no_lock_is_named(stores, tmp_path):
    (tmp_path / "compaction.lock").mkdir()
    with pytest.raises(ProductStoreError, match=r"compaction\.lock: got Is a directory, want righ"):
        stores.alone().__enter__()

"""The log of changes: numbered, durable, whole or refused."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from rerank_server.product_changes import LOG_FILE, Change, ChangeLog, ChangeLogError


@pytest.fixture
def log(tmp_path):
    opened = ChangeLog(tmp_path)
    yield opened
    opened.close()


def test_changes_are_numbered_and_the_newest_of_a_product_is_kept(log):
    assert log.last() == 0
    assert log.append([Change("a", "1"), Change("b", "2")]) == 2
    assert log.append([Change("a", "3")]) == 3
    assert log.read(0, 10) == [Change("b", "2", 2), Change("a", "3", 3)]
    assert log.read(2, 10) == [Change("a", "3", 3)]
    assert log.read(0, 10, through=2) == [Change("b", "2", 2)]
    assert log.read(0, 1) == [Change("b", "2", 2)]
    assert (log.count(0), log.count(2)) == (2, 1)


def test_the_number_of_the_newest_deletion_is_kept(log):
    log.append([Change("a", "1")])
    log.append([Change("a", None)])
    assert log.read(0, 10) == [Change("a", None, 2, deleted=2)]
    log.append([Change("a", "2")])
    log.append([Change("a", "3")])
    assert log.read(0, 10) == [Change("a", "3", 4, deleted=2)]
    log.append([Change("a", None), Change("b", None)])
    log.append([Change("a", "4")])
    assert log.read(0, 10) == [Change("b", None, 6, deleted=6), Change("a", "4", 7, deleted=5)]


def test_a_log_keeps_its_name_and_no_other_has_it(tmp_path):
    names = []
    for folder in ("one", "one", "two"):
        log = ChangeLog(tmp_path / folder)
        names.append(log.name)
        log.close()
    assert names[0] == names[1] != names[2]
    assert len(names[0]) == 32


def test_a_log_of_the_first_format_goes_on(tmp_path):
    """It said `fresh` of what was deleted before; the deletion came before the newest change."""
    database = sqlite3.connect(tmp_path / LOG_FILE)
    database.executescript(
        """
        CREATE TABLE changes (product_id BLOB PRIMARY KEY, sequence INTEGER NOT NULL UNIQUE,
            record TEXT, fresh INTEGER NOT NULL) WITHOUT ROWID;
        INSERT INTO changes VALUES (x'61', 4, '1', 1), (x'62', 5, NULL, 0), (x'63', 6, '2', 0);
        PRAGMA user_version=1;
        """
    )
    database.close()
    log = ChangeLog(tmp_path)
    assert log.read(0, 10) == [
        Change("a", "1", 4, deleted=3),
        Change("b", None, 5, deleted=5),
        Change("c", "2", 6),
    ]
    assert log.append([Change("b", "3")]) == 7
    log.close()
    log = ChangeLog(tmp_path)
    assert log.read(6, 10) == [Change("b", "3", 7, deleted=5)]
    log.close()


def test_any_id_and_text_comes_back_as_it_was(log):
    changes = [Change("\ud800", "1"), Change("ß\0", '{"text": "\\ud800 ☃"}')]
    log.append(changes)
    assert [(change.product_id, change.record) for change in log.read(0, 10)] == [
        (change.product_id, change.record) for change in changes
    ]


def test_two_openings_number_together(tmp_path, log):
    other = ChangeLog(tmp_path)

    def append(number: int) -> None:
        (log, other)[number % 2].append([Change(f"product {number}", "x")])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append, range(40)))
    numbers = [change.sequence for change in other.read(0, 100)]
    assert numbers == list(range(1, 41))
    assert log.last() == 40
    other.close()


def test_a_full_disk_appends_nothing_and_the_log_goes_on(log):
    log.append([Change("a", "1")])
    pages = log._database.execute("PRAGMA page_count").fetchone()[0]
    log._database.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(ChangeLogError, match=r"database or disk is full, want .* room"):
        log.append([Change("b", "x"), Change("c", "x" * 100_000)])
    assert log.read(0, 10) == [Change("a", "1", 1)]
    log._database.execute("PRAGMA max_page_count=1000000")
    assert log.append([Change("b", "2")]) == 2


def test_a_cut_log_is_refused(tmp_path):
    log = ChangeLog(tmp_path)
    log.append([Change(f"product {number}", "x" * 500) for number in range(200)])
    log.close()
    path = tmp_path / LOG_FILE
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ChangeLogError, match=r"changes\.sqlite: got .*, want a whole log"):
        ChangeLog(tmp_path)


def test_what_is_no_log_is_refused(tmp_path):
    (tmp_path / LOG_FILE).write_bytes(b"no database" * 1_000)
    with pytest.raises(ChangeLogError, match="got file is not a database"):
        ChangeLog(tmp_path)


def test_another_format_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / LOG_FILE) as database:
        database.execute("PRAGMA user_version=9")
    database.close()
    with pytest.raises(ChangeLogError, match="got format version 9, want 2"):
        ChangeLog(tmp_path)


def test_a_snapshot_is_of_one_moment(log):
    log.append([Change("a", "1"), Change("b", "2")])
    with log.snapshot() as read:
        log.append([Change("a", "3")])
        assert read(0, 10) == [Change("a", "1", 1), Change("b", "2", 2)]
    assert log.read(0, 10) == [Change("b", "2", 2), Change("a", "3", 3)]

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_server.telemetry.spool import MAGIC, Batch, Position, Spool, SpoolError

MIB = 1024 * 1024
FRAME = 16


def drain(spool: Spool, max_records: int = 100) -> list[bytes]:
    records: list[bytes] = []
    while (batch := spool.read(max_records, MIB)).records:
        records += batch.records
        spool.commit(batch.end)
    return records


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.segment"))


def test_records_come_out_in_the_order_in_which_they_went_in(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB, segment_bytes=100)
    records = [f"record {number}".encode() for number in range(50)]
    for record in records:
        assert spool.append([record]) == 1
    assert len(segments(tmp_path)) > 5
    assert drain(spool, max_records=7) == records
    assert drain(spool) == []
    spool.close()


def test_what_was_not_committed_comes_again_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    spool.append([b"a", b"b", b"c"])
    spool.commit(spool.read(1, MIB).end)
    assert spool.read(1, MIB).records == (b"b",)
    spool.close()
    again = Spool(tmp_path, MIB)
    again.append([b"d"])
    assert drain(again) == [b"b", b"c", b"d"]
    again.close()


def test_sent_segments_are_removed_and_the_bytes_are_free_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 20_000, segment_bytes=1_000)
    for _ in range(10):
        assert spool.append([bytes(500)] * 10) == 10
        drain(spool)
    assert spool.size_bytes < 6_000
    assert len(segments(tmp_path)) == 1
    spool.close()


def test_a_full_spool_takes_what_fits_and_no_more(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 3 * (100 + FRAME) + len(MAGIC), segment_bytes=MIB)
    spool.append([b""])
    assert spool.append([bytes(100)] * 5) == 2
    assert spool.append([bytes(100)]) == 0
    assert len(drain(spool)) == 3
    spool.close()


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    with pytest.raises(SpoolError, match="another process uses, want one of its own"):
        Spool(tmp_path, MIB)
    spool.close()
    Spool(tmp_path, MIB).close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="want a folder to write to"):
        Spool(tmp_path / "file", MIB)


@pytest.mark.parametrize("cut", range(1, 3 + FRAME))
def test_a_torn_last_record_costs_that_record_only(tmp_path: Path, cut: int) -> None:
    spool = Spool(tmp_path, MIB)
    spool.append([b"one"])
    spool.append([b"two"])
    spool.close()
    (torn,) = segments(tmp_path)
    os.truncate(torn, torn.stat().st_size - cut)
    again = Spool(tmp_path, MIB)
    again.append([b"three"])
    assert drain(again) == [b"one", b"three"]
    again.close()


def test_a_changed_record_is_counted_and_its_neighbours_are_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    spool.append([b"one", b"two", b"three"])
    spool.close()
    (segment,) = segments(tmp_path)
    content = segment.read_bytes()
    segment.write_bytes(content.replace(b"two", b"owt"))
    again = Spool(tmp_path, MIB)
    batch = again.read(10, MIB)
    assert batch.records == (b"one", b"three")
    assert batch.corrupt == 1
    again.close()


def test_zeros_that_a_loss_of_power_left_are_no_records(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    spool.append([b"one"])
    spool.close()
    (segment,) = segments(tmp_path)
    segment.write_bytes(segment.read_bytes() + bytes(100))
    again = Spool(tmp_path, MIB)
    again.append([b"two"])
    batch = again.read(10, MIB)
    assert (batch.records, batch.corrupt) == ((b"one",), 1)
    again.commit(batch.end)
    assert drain(again) == [b"two"]
    again.close()


def test_a_segment_that_was_just_begun_is_not_removed_as_sent(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB, segment_bytes=20)
    spool.append([b"fills the first segment"])
    assert drain(spool) == [b"fills the first segment"]
    spool._open_segment()
    # between this and the write, the thread that sends reads
    spool.commit(spool.read(10, MIB).end)
    assert spool.append([b"two"]) == 1
    assert drain(spool) == [b"two"]
    spool.close()


def test_a_segment_of_something_else_is_counted_and_passed(tmp_path: Path) -> None:
    (tmp_path / "000000000001.segment").write_bytes(b"not a segment at all")
    spool = Spool(tmp_path, MIB)
    spool.append([b"one"])
    batch = spool.read(10, MIB)
    assert batch == Batch((), Position(1, 20), 1, 0)
    spool.commit(batch.end)
    assert drain(spool) == [b"one"]
    spool.close()


def test_a_broken_cursor_sends_everything_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    spool.append([b"one", b"two"])
    spool.commit(spool.read(1, MIB).end)
    spool.close()
    (tmp_path / "cursor.json").write_text("{")
    again = Spool(tmp_path, MIB)
    assert drain(again) == [b"one", b"two"]
    again.close()


@settings(max_examples=30, deadline=None)
@given(
    batches=st.lists(st.lists(st.binary(max_size=60), min_size=1, max_size=5), max_size=12),
    read_at_once=st.integers(1, 6),
)
def test_any_records_come_back_whatever_the_cuts(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]], read_at_once: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    got: list[bytes] = []
    for batch in batches:  # each with a process of its own, as it were
        spool = Spool(folder, MIB, segment_bytes=80)
        assert spool.append(batch) == len(batch)
        read = spool.read(read_at_once, MIB)
        got += read.records
        spool.commit(read.end)
        spool.close()
    last = Spool(folder, MIB)
    assert got + drain(last) == [record for batch in batches for record in batch]
    last.close()


WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from rerank_server.telemetry.spool import Spool
    spool = Spool(Path(sys.argv[1]), 1 << 30, segment_bytes=20_000)
    number = 0
    while True:
        records = [str(n).encode() * 20 for n in range(number, number + 7)]
        spool.append(records)
        number += 7
        print(number, flush=True)
    """
)


def test_a_killed_process_loses_nothing_that_it_had_appended(tmp_path: Path) -> None:
    appended = 0
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(200)]
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
        said = int([line for line in lines if line.endswith("\n")][-1])
        spool = Spool(tmp_path, 1 << 30)
        records = drain(spool)
        spool.close()
        whole = [str(number).encode() * 20 for number in range(len(records))]
        assert records == whole
        assert said <= len(records) <= said + 7  # the last append may have been done, or not
        appended += said
    assert appended > 5 * 200


@pytest.mark.parametrize("written", [b"", MAGIC[:2], MAGIC])
def test_a_segment_that_a_killed_process_had_only_begun_is_passed_over(
    tmp_path: Path, written: bytes
) -> None:
    first = Spool(tmp_path, MIB)
    first.append([b"one"])
    first.close()
    (segment,) = segments(tmp_path)
    segment.with_stem(f"{int(segment.stem) + 1:012d}").write_bytes(written)
    again = Spool(tmp_path, MIB)
    again.append([b"two"])
    assert drain(again) == [b"one", b"two"]
    again.close()


FULL_DISK = textwrap.dedent(
    """
    import resource, sys
    from pathlib import Path
    from rerank_server.telemetry.spool import Spool, SpoolError
    spool = Spool(Path(sys.argv[1]), 1 << 30)
    spool.append([b"one"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    try:
        spool.append([bytes(50), bytes(500)])
    except SpoolError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    spool.append([b"two"])
    print(spool.read(10, 1000).records)
    """
)


def test_a_disk_that_refuses_leaves_no_half_of_a_batch(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    refused, read = done.stdout.splitlines()
    assert refused == f"{tmp_path}: got File too large, want to write to it"
    assert read == "(b'one', b'two')"

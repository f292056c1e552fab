"""From product ids to rows without holding the ids in memory: a hash index, then a comparison.

A 64-bit hash of the id's bytes names a bucket (its upper bits) of entries (its lower 32 bits and
the row). Whatever the hashes say, a row is only returned when the id's bytes are equal to those
that the store holds for it. All ids of a request are looked up together, in numpy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from rerank_server.contract.errors import ProductStoreError
from rerank_server.contract.page import Flags, Rows
from rerank_server.product_columns import BLOCK_ROWS, ColumnReader, ColumnWriter, map_array

Hashes: TypeAlias = npt.NDArray[np.uint64]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Sizes: TypeAlias = npt.NDArray[np.int64]

ENTRIES_FILE = "id_entries.npy"
BUCKETS_FILE = "id_buckets.npy"
OFFSETS_FILE = "id_offsets.npy"
BYTES_FILE = "ids.bin"

_LOW_BITS = np.uint64(32)
_LOW = np.uint64(0xFFFF_FFFF)
_BASE = 0x9E37_79B9_7F4A_7C15  # odd, so that no power of it is 0 modulo 2**64
_POWERS = np.array([pow(_BASE, power, 1 << 64) for power in range(1, 1025)], np.uint64)


@dataclass(frozen=True, slots=True)
class PackedIds:
    """Ids as bytes, one after the other.

    Attributes:
        data: UTF-8 of all ids, shape (bytes,).
        starts: Where each begins, shape (ids,).
        sizes: Bytes of each, shape (ids,).
    """

    data: Bytes
    starts: Sizes
    sizes: Sizes


def pack_ids(product_ids: Sequence[str]) -> PackedIds:
    """Return ids as bytes."""
    joined = "".join(product_ids)
    if joined.isascii():
        data, count = joined.encode(), len(product_ids)
        sizes = np.fromiter(map(len, product_ids), np.int64, count)
    else:
        keys = [product_id.encode(errors="surrogatepass") for product_id in product_ids]
        data = b"".join(keys)
        sizes = np.fromiter(map(len, keys), np.int64, len(keys))
    return PackedIds(np.frombuffer(data, np.uint8), np.cumsum(sizes) - sizes, sizes)


def hash_ids(ids: PackedIds) -> Hashes:
    """Return the 64-bit hash of each id, shape (ids,).

    h = sum over bytes b_i of (b_i + 1) * base^(i + 1) modulo 2^64, then the finaliser of
    SplitMix64 (Steele, Lea and Flood 2014), so that every bit depends on every byte.
    """
    positions = np.arange(ids.data.shape[0]) - np.repeat(ids.starts, ids.sizes)
    terms = (ids.data.astype(np.uint64) + np.uint64(1)) * _POWERS.take(positions, mode="clip")
    sums = np.zeros(ids.data.shape[0] + 1, np.uint64)
    np.cumsum(terms, out=sums[1:])
    hashes: Hashes = sums[ids.starts + ids.sizes] - sums[ids.starts]
    hashes ^= hashes >> np.uint64(30)
    hashes *= np.uint64(0xBF58_476D_1CE4_E5B9)
    hashes ^= hashes >> np.uint64(27)
    hashes *= np.uint64(0x94D0_49BB_1331_11EB)
    hashes ^= hashes >> np.uint64(31)
    return hashes


class ProductIds:
    """Looks up the rows of product ids in the files that `ProductIdWriter` wrote."""

    def __init__(
        self, entries: Hashes, buckets: npt.NDArray[np.uint32], offsets: Sizes, ids: Bytes
    ) -> None:
        self._entries = entries  # (products,), lower half of the hash and row, by hash
        self._buckets = buckets  # (buckets + 1,), where each begins
        self._offsets = offsets  # (rows + 1,), into ids
        self._ids = ids
        self._shift = np.uint64(64 - (buckets.shape[0] - 1).bit_length() + 1)

    @classmethod
    def open(cls, folder: Path) -> ProductIds:
        """Map the files into memory.

        Raises:
            ProductStoreError: When one is missing, cut, or does not fit the others.
        """
        entries, buckets = map_array(folder / ENTRIES_FILE), map_array(folder / BUCKETS_FILE)
        offsets = map_array(folder / OFFSETS_FILE)
        data = _map_bytes(folder / BYTES_FILE)
        if data.shape[0] != offsets[-1]:
            raise ProductStoreError(
                f"{folder / BYTES_FILE}: got {data.shape[0]} bytes, want {offsets[-1]}"
            )
        if buckets[-1] != entries.shape[0]:
            raise ProductStoreError(
                f"{folder / ENTRIES_FILE}: got {entries.shape[0]} entries, want {buckets[-1]}"
            )
        return cls(entries, buckets, offsets, data)

    @property
    def size(self) -> int:
        """The number of products."""
        return int(self._entries.shape[0])

    @property
    def row_count(self) -> int:
        """The number of rows, those of removed products included."""
        return int(self._offsets.shape[0]) - 1

    def rows(self, product_ids: Sequence[str]) -> Rows:
        """Return the row of each id, shape (ids,); `row_count` where unknown."""
        return self.packed_rows(pack_ids(product_ids))

    def packed_rows(self, ids: PackedIds) -> Rows:
        """Return the row of each id, shape (ids,); `row_count` where unknown."""
        found = np.full(ids.sizes.shape[0], self.row_count, np.int32)
        hashes = hash_ids(ids)
        bucket = (hashes >> self._shift).astype(np.int64)
        start = self._buckets[bucket].astype(np.int64)
        length = np.where(ids.sizes > 0, self._buckets[bucket + 1] - start, 0)
        # every entry of every id's bucket, about two an id, looked at in one go
        before = np.cumsum(length) - length
        asked = np.repeat(np.arange(length.shape[0]), length)
        entries = self._entries[np.arange(asked.shape[0]) + (start - before)[asked]]
        alike = np.flatnonzero((entries >> _LOW_BITS) == (hashes & _LOW)[asked])
        asked, rows = asked[alike], (entries[alike] & _LOW).astype(np.int64)
        equal = self._equal(ids, asked, rows)
        found[asked[equal]] = rows[equal]
        return found

    def _equal(self, ids: PackedIds, which: Sizes, rows: Sizes) -> Flags:
        """Mark where the bytes of an asked id are those of a row."""
        starts = self._offsets[rows]
        sizes = ids.sizes[which]
        equal: Flags = self._offsets[rows + 1] - starts == sizes
        kept = np.flatnonzero(equal)
        sizes = sizes[kept]
        ends = np.cumsum(sizes)
        index = np.arange(ends[-1] if ends.shape[0] else 0)
        stored = self._ids[index + np.repeat(starts[kept] - ends + sizes, sizes)]
        asked = ids.data[index + np.repeat(ids.starts[which[kept]] - ends + sizes, sizes)]
        wrong = np.flatnonzero(stored != asked)
        equal[kept[np.searchsorted(ends, wrong, side="right")]] = False
        return equal


class ProductIdWriter:
    """Appends product ids in row order and writes the files that `ProductIds` reads."""

    def __init__(self, folder: Path, rows: int, *, rows_done: int = 0, bytes_done: int = 0) -> None:
        """Write the ids of `rows` rows, or go on after the first `rows_done`."""
        self._folder = folder
        self._offsets = ColumnWriter(
            folder / OFFSETS_FILE, np.int64, (rows + 1,), rows_done=rows_done and rows_done + 1
        )
        self._file = (folder / BYTES_FILE).open("r+b" if rows_done else "w+b")
        self._file.seek(bytes_done)
        self._file.truncate()
        self.bytes_done = bytes_done
        if not rows_done:
            self._offsets.append([0])

    def add(self, product_ids: Sequence[str]) -> None:
        """Add the ids of the next rows."""
        self.add_packed(pack_ids(product_ids))

    def add_packed(self, ids: PackedIds) -> None:
        """Add the ids of the next rows; an empty one is that of a removed product."""
        self._file.write(ids.data.data)
        self._offsets.append(self.bytes_done + np.cumsum(ids.sizes))
        self.bytes_done += ids.data.shape[0]

    def sync(self) -> None:
        """Put on disk what was added."""
        self._offsets.sync()
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write the index; it takes 24 bytes of memory a row meanwhile.

        Raises:
            ProductStoreError: When an id stands twice.
        """
        self.discard()
        _write_index(self._folder)

    def discard(self) -> None:
        """Close the files without an index."""
        self._offsets.close()
        self._file.close()


def block_bounds(folder: Path, rows: int = BLOCK_ROWS) -> list[tuple[int, int]]:
    """Return the first row and the row after the last of each block for `read_block`."""
    count = ColumnReader(folder / OFFSETS_FILE).shape[0] - 1
    return [(start, min(start + rows, count)) for start in range(0, count, rows)]


def read_block(folder: Path, start: int, stop: int) -> PackedIds:
    """Return the ids of the rows from `start` to before `stop`."""
    offsets = ColumnReader(folder / OFFSETS_FILE).rows(start, stop + 1)
    first = int(offsets[0])
    data = np.fromfile(folder / BYTES_FILE, np.uint8, int(offsets[-1]) - first, offset=first)
    return PackedIds(data, offsets[:-1] - first, np.diff(offsets))


def _write_index(folder: Path) -> None:
    count = ColumnReader(folder / OFFSETS_FILE).shape[0] - 1
    hashes = np.empty(count, np.uint64)
    held = np.ones(count, np.bool_)
    for start, stop in block_bounds(folder):
        block = read_block(folder, start, stop)
        hashes[start:stop] = hash_ids(block)
        held[start:stop] = block.sizes > 0
    rows = np.flatnonzero(held).astype(np.uint32)
    if rows.shape[0] < count:
        hashes = hashes[rows]
    order = np.argsort(hashes, kind="stable").astype(np.uint32)
    hashes = hashes[order]
    rows = rows[order]
    del order, held
    _refuse_twice(folder, hashes, rows)
    bits = max(1, (max(rows.shape[0], 1) - 1).bit_length())
    _write_buckets(folder / BUCKETS_FILE, hashes, bits)
    entries = ColumnWriter(folder / ENTRIES_FILE, np.uint64, rows.shape)
    for start in range(0, rows.shape[0], BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        entries.append(((hashes[part] & _LOW) << _LOW_BITS) | rows[part])
    entries.close()


def _write_buckets(path: Path, hashes: Hashes, bits: int) -> None:
    count = 1 << bits
    buckets = ColumnWriter(path, np.uint32, (count + 1,))
    for start in range(0, count, BLOCK_ROWS):
        edges = np.arange(start, min(start + BLOCK_ROWS, count), dtype=np.uint64)
        buckets.append(np.searchsorted(hashes, edges << np.uint64(64 - bits)))
    buckets.append([hashes.shape[0]])
    buckets.close()


def _refuse_twice(folder: Path, hashes: Hashes, rows: npt.NDArray[np.uint32]) -> None:
    same = np.flatnonzero(hashes[1:] == hashes[:-1])
    starts = np.flatnonzero(np.diff(same, prepend=-2) > 1)
    for start, end in pairwise([*starts.tolist(), same.shape[0]]):
        first: dict[bytes, int] = {}
        run = rows[same[start] : same[end - 1] + 2]  # rows of one hash, ascending
        for row in run.tolist():
            key = read_block(folder, row, row + 1).data.tobytes()
            if key in first:
                raise ProductStoreError(
                    f"products.jsonl: got id {key.decode(errors='replace')!r} in lines"
                    f" {first[key] + 1} and {row + 1}, want each product once"
                )
            first[key] = row


def _map_bytes(path: Path) -> Bytes:
    try:
        if path.stat().st_size == 0:
            return np.empty(0, np.uint8)
        return np.asarray(np.memmap(path, np.uint8, "r"))
    except OSError as error:
        raise ProductStoreError(
            f"{path}: got {error.strerror or error}, want a readable file of a product store"
        ) from error

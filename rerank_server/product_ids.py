"""From product ids to rows without holding the ids in memory: sorted hashes, then a comparison."""

from __future__ import annotations

import mmap
import zlib
from array import array
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rerank_server.contract.errors import ProductStoreError
from rerank_server.contract.page import Rows

Hashes: TypeAlias = npt.NDArray[np.uint32]

HASHES_FILE = "id_hashes.npy"
ROWS_FILE = "id_rows.npy"
OFFSETS_FILE = "id_offsets.npy"
BYTES_FILE = "ids.bin"


class ProductIds:
    """Looks up the rows of product ids in the files that `ProductIdWriter` wrote."""

    def __init__(
        self, hashes: Hashes, rows: Rows, offsets: npt.NDArray[np.int64], ids: bytes
    ) -> None:
        self._hashes = hashes  # (products,), ascending
        self._rows = rows  # (products,), row of each hash
        self._offsets = offsets  # (products + 1,), into ids
        self._ids = ids

    @classmethod
    def open(cls, folder: Path) -> ProductIds:
        """Map the files into memory.

        Raises:
            ProductStoreError: When one is missing, cut, or does not fit the others.
        """
        hashes = map_array(folder / HASHES_FILE)
        offsets = map_array(folder / OFFSETS_FILE)
        data = _map_bytes(folder / BYTES_FILE)
        if len(data) != offsets[-1]:
            raise ProductStoreError(
                f"{folder / BYTES_FILE}: got {len(data)} bytes, want {offsets[-1]}"
            )
        return cls(hashes, map_array(folder / ROWS_FILE), offsets, data)

    @property
    def size(self) -> int:
        """The number of products."""
        return int(self._hashes.shape[0])

    def rows(self, product_ids: Sequence[str]) -> Rows:
        """Return the row of each id, shape (ids,); `size` where unknown."""
        keys = [product_id.encode(errors="surrogatepass") for product_id in product_ids]
        hashes = np.fromiter(map(zlib.crc32, keys), np.uint32, len(keys))
        position = np.searchsorted(self._hashes, hashes)
        found = np.full(len(keys), self.size, np.int32)
        inside = np.flatnonzero(position < self.size)
        inside = inside[self._hashes[position[inside]] == hashes[inside]]
        rows = self._rows[position[inside]]
        starts, ends = self._offsets[rows].tolist(), self._offsets[rows + 1].tolist()
        ids = self._ids
        for index, row, start, end in zip(
            inside.tolist(), rows.tolist(), starts, ends, strict=True
        ):
            if ids[start:end] == keys[index]:
                found[index] = row
            else:
                found[index] = self._search_run(int(position[index]) + 1, keys[index])
        return found

    def _search_run(self, position: int, key: bytes) -> int:
        """Return the row of `key` among the later products of the same hash."""
        wanted = zlib.crc32(key)
        while position < self.size and self._hashes[position] == wanted:
            row = int(self._rows[position])
            if self._ids[self._offsets[row] : self._offsets[row + 1]] == key:
                return row
            position += 1
        return self.size


class ProductIdWriter:
    """Collects product ids in row order and writes the files that `ProductIds` reads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / BYTES_FILE).open("wb")
        self._hashes = array("I")
        self._offsets = array("q", [0])

    def add(self, product_id: str) -> None:
        """Add the id of the next row."""
        key = product_id.encode(errors="surrogatepass")
        self._file.write(key)
        self._hashes.append(zlib.crc32(key))
        self._offsets.append(self._offsets[-1] + len(key))

    def close(self) -> None:
        """Write the index.

        Raises:
            ProductStoreError: When an id stands twice.
        """
        self._file.close()
        hashes = np.array(self._hashes, np.uint32)
        offsets = np.array(self._offsets, np.int64)
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        self._refuse_twice(hashes[order], order, offsets)
        np.save(self._folder / HASHES_FILE, hashes[order])
        np.save(self._folder / ROWS_FILE, order)
        np.save(self._folder / OFFSETS_FILE, offsets)

    def discard(self) -> None:
        """Close the file without an index."""
        self._file.close()

    def _refuse_twice(self, hashes: Hashes, rows: Rows, offsets: npt.NDArray[np.int64]) -> None:
        ids = _map_bytes(self._folder / BYTES_FILE)
        same = np.flatnonzero(hashes[1:] == hashes[:-1])
        starts = np.flatnonzero(np.diff(same, prepend=-2) > 1)
        for start, end in pairwise([*starts.tolist(), same.shape[0]]):
            first: dict[bytes, int] = {}
            run = rows[same[start] : same[end - 1] + 2]  # rows of one hash, ascending
            for row in run.tolist():
                key = bytes(ids[offsets[row] : offsets[row + 1]])
                if key in first:
                    raise ProductStoreError(
                        f"products.jsonl: got id {key.decode(errors='replace')!r} in lines"
                        f" {first[key] + 1} and {row + 1}, want each product once"
                    )
                first[key] = row


def map_array(path: Path) -> npt.NDArray[Any]:
    """Map a `.npy` file into memory, read-only.

    Raises:
        ProductStoreError: When it is missing, cut or no such file.
    """
    try:
        # a plain view: numpy's memmap class would slow down every slice of it
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise ProductStoreError(f"{path}: got {error}, want a whole numpy file") from error


def _map_bytes(path: Path) -> bytes:
    """Map a file into memory as something that slices like `bytes`."""
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                return b""
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # type: ignore[return-value]
    except OSError as error:
        raise ProductStoreError(
            f"{path}: got {error.strerror or error}, want a readable file of a product store"
        ) from error

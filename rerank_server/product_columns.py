"""Columns of a product store as `.npy` files: appended in bounded memory, mapped when read."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rerank_server.contract.errors import ProductStoreError

# Rows that are read or written at a time where a whole column would be too much.
BLOCK_ROWS = 65_536


class ColumnWriter:
    """Appends rows to a `.npy` file whose final shape is known; resumes where it was cut."""

    def __init__(
        self, path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...], *, rows_done: int = 0
    ) -> None:
        """Open the file and cut away what was written after `rows_done`."""
        self._dtype = np.dtype(dtype)
        self._shape = shape
        self._file = path.open("r+b" if rows_done else "w+b")
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        )
        self._start = self._file.tell()
        self._row_bytes = self._dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        self._file.seek(self._start + rows_done * self._row_bytes)
        self._file.truncate()

    def append(self, rows: npt.ArrayLike) -> None:
        """Write the next rows."""
        array = np.ascontiguousarray(rows, self._dtype)
        self._file.write(array.reshape((array.shape[0], *self._shape[1:])).tobytes())

    def put(self, rows: npt.NDArray[np.integer[Any]], values: npt.ArrayLike) -> None:
        """Write some rows, which may be there already or stand behind the last."""
        data = np.ascontiguousarray(values, self._dtype).tobytes()
        self._file.flush()
        number = self._file.fileno()
        for index, row in enumerate(rows.tolist()):
            part = data[index * self._row_bytes : (index + 1) * self._row_bytes]
            _write_all(number, part, self._start + row * self._row_bytes)

    def sync(self) -> None:
        """Put on disk what was appended."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ColumnReader:
    """Reads blocks of rows of a `.npy` file without mapping it, so that no page stays."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            ProductStoreError: When the file is missing, cut or no such file.
        """
        array = map_array(path)
        self.shape, self.dtype = array.shape, array.dtype
        self._path = path
        self._row_bytes = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
        self._start = path.stat().st_size - array.nbytes

    def rows(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return the rows from `start` to before `stop`."""
        count = max(min(stop, self.shape[0]) - start, 0)
        values = np.fromfile(
            self._path,
            self.dtype,
            count * self._row_bytes // self.dtype.itemsize,
            offset=self._start + start * self._row_bytes,
        )
        return values.reshape((count, *self.shape[1:]))

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator[npt.NDArray[Any]]:
        """Return all rows, block after block."""
        for start in range(0, self.shape[0], rows):
            yield self.rows(start, start + rows)


def _write_all(number: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(number, data, offset)
        data, offset = data[written:], offset + written


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


def map_column(
    path: Path, shape: Sequence[int | None], dtype: npt.DTypeLike, *, spare_rows: int = 0
) -> npt.NDArray[Any]:
    """Map a column, read-only, or with room for more rows that this process alone sees.

    The spare rows follow those of the file; they hold zeros, can be written, and take memory
    only once they are. The file is never written.

    Args:
        path: A `.npy` file.
        shape: What the file has to hold; None stands for any size.
        dtype: What it has to hold.
        spare_rows: Rows to add.

    Raises:
        ProductStoreError: When the file is missing, cut, or holds something else.
    """
    array = map_array(path)
    fits = len(array.shape) == len(shape) and all(
        want is None or got == want for got, want in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype != dtype:
        wanted = tuple("any" if size is None else size for size in shape)
        raise ProductStoreError(
            f"{path}: got {array.dtype} {array.shape}, want {np.dtype(dtype)} {wanted}"
        )
    return _map_with_spare(path, array, spare_rows) if spare_rows else array


def _map_with_spare(path: Path, array: npt.NDArray[Any], spare_rows: int) -> npt.NDArray[Any]:
    """Reserve memory for all rows and lay the file over its beginning, copied when written."""
    size = path.stat().st_size
    rows = array.shape[0] + spare_rows
    row_bytes = array.nbytes // array.shape[0]
    region = mmap.mmap(
        -1,
        size + spare_rows * row_bytes,
        flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
        prot=mmap.PROT_READ | mmap.PROT_WRITE,
    )
    address = ctypes.addressof(ctypes.c_char.from_buffer(region))
    with path.open("rb") as file:
        mapped = _libc_mmap()(
            address,
            size,
            mmap.PROT_READ | mmap.PROT_WRITE,
            mmap.MAP_PRIVATE | _MAP_FIXED,
            file.fileno(),
            0,
        )
    if mapped != address:
        raise ProductStoreError(f"{path}: got {os.strerror(ctypes.get_errno())}, want to map it")
    return np.ndarray((rows, *array.shape[1:]), array.dtype, region, size - array.nbytes)


_MAP_FIXED = 0x10  # of Linux and macOS; Python's mmap does not name it


def _libc_mmap() -> Any:  # noqa: ANN401 - a C function
    function = ctypes.CDLL(None, use_errno=True).mmap
    function.restype = ctypes.c_void_p
    function.argtypes = (
        *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
        *(ctypes.c_int, ctypes.c_int, ctypes.c_long),
    )
    return function

"""Logs of any size: the pages of a log many times over, each time as pages of new ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from trainer.encoding.dataset import FILES
from trainer.encoding.encoded import EncodedLog

# Columns with an entry per page or candidate, and what is added to them each time over.
_PAGE_COLUMNS = ("pages", "surfaces", "sequence_rows", "sequence_features")
_ROW_COLUMNS = ("candidates", "dense", "labels", "rows", "categories")


def write_repeated(log: EncodedLog, times: int, folder: Path) -> tuple[Path, Path]:
    """Write `times` copies of a log's pages, products and shoppers' pasts staying as they are.

    No more than one copy is held in memory.

    Returns:
        The prepared and the encoded folder.
    """
    prepared, encoded = folder / "prepared", folder / "encoded"
    prepared.mkdir(parents=True)
    encoded.mkdir()
    own = {f"{file}.npy": name for name, file in FILES.items() if name.startswith("page_")}
    own |= {f"{file}.npy": name for name, file in FILES.items() if name.startswith("candidate_")}
    for path in log.prepared.path.iterdir():
        if path.name not in own:
            (prepared / path.name).symlink_to(path.resolve())
    for file, name in own.items():
        values = getattr(log.prepared, name)
        if name == "page_offsets":
            _write_offsets(prepared / file, values, times)
        else:
            _write(prepared / file, values, times, 0)
    added = {"pages": log.prepared.page_count, "candidates": log.prepared.candidate_rows.size}
    for name in (*_PAGE_COLUMNS, *_ROW_COLUMNS):
        values = np.load(log.folder / f"{name}.npy", mmap_mode="r")
        _write(encoded / f"{name}.npy", values, times, added.get(name, 0))
    _write_offsets(encoded / "offsets.npy", log.offsets, times)
    (encoded / "schema.json").write_bytes((log.folder / "schema.json").read_bytes())
    return prepared, encoded


def _write(path: Path, values: np.ndarray, times: int, added: int) -> None:
    count = values.shape[0]
    file = open_memmap(path, "w+", values.dtype, (count * times, *values.shape[1:]))
    for number, part in _parts(count, times):
        file[part] = values + values.dtype.type(added * number) if added else values
    file.flush()


def _write_offsets(path: Path, offsets: np.ndarray, times: int) -> None:
    count = offsets.shape[0] - 1
    file = open_memmap(path, "w+", offsets.dtype, (count * times + 1,))
    for number, part in _parts(count, times):
        file[part] = offsets[:-1] + number * offsets[-1]
    file[-1] = times * offsets[-1]
    file.flush()


def _parts(count: int, times: int) -> Iterator[tuple[int, slice]]:
    for number in range(times):
        yield number, slice(number * count, (number + 1) * count)

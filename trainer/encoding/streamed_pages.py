"""Rows of an encoded log on disk: what does not fit into memory is read by the page.

Every column with one entry per candidate lies in a file that is mapped into memory, so that a
batch touches the rows of its own pages and no others. What a process has touched stays part of
its resident memory until it is given back; `give_back` does that between two steps.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from trainer.encoding.dataset import Prepared

ROW_COLUMNS = ("labels", "rows", "categories")
_STRETCH = 1 << 20  # rows that are held at once while columns are written


def write_row_columns(prepared: Prepared, candidates: np.ndarray, folder: Path) -> None:
    """Write `labels`, `rows` and `categories` of the candidates, a stretch at a time.

    Args:
        prepared: The log.
        candidates: Indices into the log's candidate columns, shape (rows,).
        folder: Takes `labels.npy`, shape (rows, objectives), `rows.npy` and `categories.npy`,
            shape (rows,).
    """
    labels = prepared.candidate_labels
    count = int(candidates.shape[0])
    columns = {
        "labels": ((count, labels.shape[1]), labels.dtype),
        "rows": ((count,), prepared.candidate_rows.dtype),
        "categories": ((count,), prepared.product_categories.dtype),
    }
    files = {
        name: open_memmap(folder / f"{name}.npy", "w+", dtype, shape)
        for name, (shape, dtype) in columns.items()
    }
    for start in range(0, count, _STRETCH):
        part = slice(start, min(start + _STRETCH, count))
        of_log = candidates[part]
        rows = prepared.candidate_rows[of_log]
        files["labels"][part] = labels[of_log]
        files["rows"][part] = rows
        files["categories"][part] = prepared.product_categories[rows]
    for file in files.values():
        file.flush()


def chosen_columns(values: np.ndarray, columns: Sequence[int]) -> np.ndarray:
    """Return `values[:, columns]`; neighbours in their order stay in the file they lie in."""
    first, count = columns[0], len(columns)
    if list(columns) == list(range(first, first + count)):
        return values[:, first : first + count]
    chosen: np.ndarray = values[:, list(columns)]
    return chosen


def give_back(*arrays: np.ndarray) -> None:
    """Take what was read of these arrays out of the process's resident memory.

    Only files that are mapped for reading are; the system may keep their content in its cache,
    from where a later read gets it without the disk.
    """
    for array in arrays:
        file = _mapping(array)
        if file is not None and not array.flags.writeable:
            file.madvise(mmap.MADV_DONTNEED)


def _mapping(array: np.ndarray) -> mmap.mmap | None:
    """Return the mapping that an array is a view of; None for one in memory."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None

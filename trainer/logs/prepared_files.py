"""Writing a prepared folder: numpy arrays and JSON, all or nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from trainer.logs.log_arrays import LogArrays
from trainer.logs.pages import CANDIDATE_COLUMNS, PAGE_COLUMNS, Pages

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
PRODUCT_COLUMNS = ("category", "leaf", "middle", "brand", "size")
INTERACTION_COLUMNS = ("row", "time", "place", "quantity", "price", "discount")


@contextmanager
def folder_written_whole(target: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `target` that takes its place when the block succeeds.

    Whatever happens, `target` is either absent or whole. What killed runs left behind is removed
    first; when another run finishes the same target earlier, its folder stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for remains in target.parent.glob(f".{target.name}.*.partial"):
        if not _is_running(int(remains.name.split(".")[-2])):
            shutil.rmtree(remains, ignore_errors=True)
    partial = target.parent / f".{target.name}.{os.getpid()}.partial"
    partial.mkdir()
    try:
        yield partial
        _flush(partial)
        if not (target / MANIFEST).is_file():
            shutil.rmtree(target, ignore_errors=True)
            os.replace(partial, target)  # noqa: PTH105  the atomic rename is the point
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_running(process: int) -> bool:
    """Return whether a process of this number runs, whoever owns it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(folder: Path) -> None:
    """Force the folder's files to disk, so that the rename never outruns them."""
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_log(folder: Path, log: LogArrays) -> None:
    """Write the catalogue and the interactions."""
    products, interactions = log.products, log.interactions
    write_lines(folder / "products.jsonl", products.records)
    _write_arrays(folder, "products", products, PRODUCT_COLUMNS)
    _write_arrays(folder, "interactions", interactions, INTERACTION_COLUMNS)
    np.save(folder / "interactions_shopper_offsets.npy", interactions.shopper_offsets)
    for name in ("categories", "leaves", "middles", "brands", "sizes"):
        write_json(folder / f"{name}.json", getattr(products, name))
    for name in ("shoppers", "places"):
        write_json(folder / f"{name}.json", getattr(interactions, name))


def write_pages(folder: Path, pages: Pages, queries: list[str]) -> None:
    """Write the pages and the flattened candidates."""
    _write_arrays(folder, "pages", pages, (*PAGE_COLUMNS, "offsets"))
    _write_arrays(folder, "candidates", pages, CANDIDATE_COLUMNS)
    write_json(folder / "queries.json", queries)


def _write_arrays(folder: Path, prefix: str, holder: object, names: Iterable[str]) -> None:
    for name in names:
        np.save(folder / f"{prefix}_{name}.npy", getattr(holder, name), allow_pickle=False)


def write_json(path: Path, value: Mapping[str, Any] | list[str]) -> None:
    """Write one JSON document."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")

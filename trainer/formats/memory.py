"""Predicts what a benchmark will hold in memory, and refuses before it begins."""

from __future__ import annotations

import re
from pathlib import Path

from trainer.formats.errors import DataError

_MEMINFO = Path("/proc/meminfo")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"))
_COPIES = 3  # of the features: the pages, the fold that is trained on, what a model makes of it
_TEXT_BYTES = 256 * 4
_PROGRAM = 700 * 2**20  # Paddle, word vectors, LightGBM
_SHARE = 0.9  # of the free memory, the rest is for others


def check_memory(rows: int, features: int, products: int, setting: str) -> None:
    """Refuse what will not fit.

    Args:
        rows: Candidates of all pages together.
        features: Of each.
        products: With a text vector each.
        setting: What avoids it, named in the error.

    Raises:
        DataError: When the prediction is above what is free; names both and the setting.
    """
    wanted, free = predicted_bytes(rows, features, products), free_bytes()
    if free is not None and wanted > _SHARE * free:
        raise DataError(
            f"memory: got {rows:,} candidates with {features} features and {products:,} products, "
            f"which take about {wanted / 2**30:.1f} GiB, want at most "
            f"{_SHARE * free / 2**30:.1f} GiB of the {free / 2**30:.1f} GiB that are free: take "
            f"{setting}"
        )


def predicted_bytes(rows: int, features: int, products: int) -> int:
    """Return the sum of features with their copies, text vectors and the program itself."""
    columns = features * 4 + 24  # labels, rows, categories, offsets
    return rows * columns * _COPIES + 2 * products * _TEXT_BYTES + _PROGRAM


def free_bytes() -> int | None:
    """Return the memory that is free to this process; None where the system does not say."""
    found = [value for value in (_free_of_machine(), _free_of_group()) if value is not None]
    return min(found, default=None)


def _free_of_machine() -> int | None:
    try:
        match = re.search(r"MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(encoding="ascii"))
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


def _free_of_group() -> int | None:
    try:
        most, used = (path.read_text(encoding="ascii").strip() for path in _LIMITS)
    except OSError:
        return None
    return max(int(most) - int(used), 0) if most.isdigit() else None

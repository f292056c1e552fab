"""The stores compacted from a log of changes, in folders beside it: named, found, and removed.

Such a store is a copy that may be removed: the catalogue's store and the log hold everything. Of
all processes that follow the log one at a time writes and removes them.
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from rerank_server.contract.bundle import Bundle

_LOCK_FILE = "compaction.lock"
_KEPT_S = 7 * 86_400  # stores of other bundles and builds


class CompactedStores:
    """The compacted stores in one folder."""

    def __init__(self, folder: Path) -> None:
        """Look into `folder`, which need not exist yet."""
        self._folder = folder

    def path(self, origin: str, bundle: Bundle, through: int) -> Path:
        """Return where the store goes that holds the changes up to number `through`."""
        return self._folder / f"{_stem(origin, bundle)}{through:015d}"

    def newest(self, origin: str, bundle: Bundle) -> tuple[int, Path] | None:
        """Return number and folder of the newest store of one build and bundle."""
        found = [
            (int(path.name.rpartition("-")[2]), path)
            for path in self._folder.glob(f"{_stem(origin, bundle)}*")
            if path.name.rpartition("-")[2].isdigit()
        ]
        return max(found, default=None)

    @contextmanager
    def alone(self, *, wait: bool = False) -> Iterator[bool]:
        """Yield whether this process alone compacts now; when told to, wait until it does."""
        with (self._folder / _LOCK_FILE).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError:
                yield False
            else:
                yield True

    def remove_cut(self) -> None:
        """Remove what compactions that were killed left behind; only who compacts alone may."""
        for path in self._folder.glob(".store-*"):
            shutil.rmtree(path, ignore_errors=True)

    def remove_old(self, origin: str, bundle: Bundle, newest: int, used: Collection[Path]) -> None:
        """Remove the stores that number `newest` replaces, and old ones of other bundles.

        Another process may still map one of them: its files go when it is done with them.
        """
        stem, now = _stem(origin, bundle), time.time()
        for path in self._folder.glob("store-*"):
            if path in used:
                continue
            if path.name.startswith(stem):
                outdated = int(path.name.rpartition("-")[2]) < newest
            else:
                outdated = now - path.stat().st_mtime > _KEPT_S
            if outdated:
                shutil.rmtree(path, ignore_errors=True)

    def remove(self, origin: str, bundle: Bundle) -> None:
        """Remove all stores of a build that is served no more."""
        for path in self._folder.glob(f"{_stem(origin, bundle)}*"):
            shutil.rmtree(path, ignore_errors=True)


def _stem(origin: str, bundle: Bundle) -> str:
    return f"store-{origin[:12]}-{bundle.manifest.bundle_id[:12]}-"

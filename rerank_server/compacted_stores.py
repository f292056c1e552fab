"""The stores compacted from a log of changes, in folders beside it: named, found, and removed.

Such a store is a copy that may be removed: the catalogue's store and the log hold everything. Of
all processes that follow the log one at a time writes and removes them.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from rerank_server.contract.bundle import Bundle
from rerank_server.contract.errors import ProductStoreError

_LOCK_FILE = "compaction.lock"
_KEPT_S = 7 * 86_400  # stores of other bundles and builds
_LOG = logging.getLogger(__name__)


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
        return max(self._of(_stem(origin, bundle)), default=None)

    @contextmanager
    def alone(self, *, wait: bool = False) -> Iterator[bool]:
        """Yield whether this process alone compacts now; when told to, wait until it does.

        Raises:
            ProductStoreError: When the folder takes no lock.
        """
        path = self._folder / _LOCK_FILE
        with ExitStack() as stack:
            try:
                lock = stack.enter_context(path.open("w"))
                alone = _lock(lock)
                if not alone and wait:
                    fields = {"path": str(path)}
                    _LOG.info("waiting for another process's compaction", extra={"fields": fields})
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    alone = True
            except OSError as error:
                raise ProductStoreError(
                    f"{path}: got {error.strerror or error}, want rights to lock it, on a disk of"
                    " this machine"
                ) from error
            yield alone

    def remove_cut(self) -> None:
        """Remove what compactions that were killed left behind; only who compacts alone may."""
        for path in self._folder.glob(".store-*"):
            shutil.rmtree(path, ignore_errors=True)

    def remove_old(self, origin: str, bundle: Bundle, newest: int, used: Collection[Path]) -> None:
        """Remove the stores that number `newest` replaces, and old ones of other bundles.

        Another process may still map one of them: its files go when it is done with them.
        """
        stem, now = _stem(origin, bundle), time.time()
        for through, path in self._of("store-"):
            if path.name.startswith(stem):
                outdated = through < newest
            else:
                outdated = now - path.stat().st_mtime > _KEPT_S
            if outdated and path not in used:
                shutil.rmtree(path, ignore_errors=True)

    def remove(self, origin: str, bundle: Bundle) -> None:
        """Remove all stores of a build that is served no more."""
        for _, path in self._of(_stem(origin, bundle)):
            shutil.rmtree(path, ignore_errors=True)

    def _of(self, stem: str) -> list[tuple[int, Path]]:
        """Return number and folder of stores; what a person named otherwise is none."""
        named = ((path.name.rpartition("-")[2], path) for path in self._folder.glob(f"{stem}*"))
        return [(int(number), path) for number, path in named if number.isdigit()]


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stem(origin: str, bundle: Bundle) -> str:
    return f"store-{origin[:12]}-{bundle.manifest.bundle_id[:12]}-"

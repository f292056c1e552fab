"""Products that change while they are served: the log, the stores held, and their compaction.

A change is appended to the log, where it is durable, and then put over every store that is held,
where the next request sees it; only then is it acknowledged. Each server follows the log, so any of
several may take changes, and so may the command line. One of them at a time compacts: it writes a
store with the changes in its files beside the log and exchanges it between two requests. Such a
generation is a copy that may be removed; the catalogue's store and the log hold everything.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rerank_server.contract.bundle import Bundle
from rerank_server.contract.errors import ProductStoreError, RerankError
from rerank_server.held_store import HeldStore, Served
from rerank_server.product_changes import Change, ChangeLog
from rerank_server.product_compaction import compact
from rerank_server.product_overlay import StoreFullError, spare_rows_for
from rerank_server.product_records import (
    ProductError,
    RecordReader,
    check_id,
)
from rerank_server.product_store import ProductStore, read_manifest

MAX_CHANGES = 1_000
# Other processes' changes are seen after at most this long.
FOLLOW_EVERY_S = 0.2
# Compaction begins when this share of the room for changes is taken.
COMPACT_AT = 0.5
_LOCK_FILE = "compaction.lock"
_KEPT_S = 7 * 86_400  # generations of other bundles
_LOG = logging.getLogger(__name__)


Exchange = Callable[[Any, ProductStore], "Served | None"]


class LiveProducts:
    """The changes of one folder, put over every store attached; may be shared by threads."""

    def __init__(self, folder: Path, *, spare_rows: int | None = None) -> None:
        """Open the log of `folder`.

        Args:
            folder: Holds the log and the compacted stores.
            spare_rows: Room for changes over each store; None takes what fits its size.

        Raises:
            ChangeLogError: When the log is broken or cannot be opened.
        """
        self.folder = Path(folder)
        self.log = ChangeLog(self.folder)
        self._spare_rows = spare_rows
        self._lock = threading.RLock()  # held while stores change
        self._held: list[HeldStore] = []
        self._exchange: Exchange | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def attach(self, served: Served, products_path: Path) -> None:
        """Put the store of `products_path` with all changes in use there, before it serves.

        Raises:
            ProductStoreError: When the store is broken or of another bundle.
            ChangeLogError: When the log cannot be read.
        """
        held = self._open(served, Path(products_path))
        with self._lock:
            held.catch_up(self.log)
            served.take_products(held.store)
            self._held = [*self._living(), held]

    def follow(self, exchange: Exchange) -> None:
        """Follow the log and compact, in a thread of its own, until `close`.

        Args:
            exchange: Puts a store in place of that of what is served, between two requests, and
                returns what is served then; None where it is not served (yet, or no more).
        """
        self._exchange = exchange
        self._thread = threading.Thread(target=self._run, name="products", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following and close the log."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self.log.close()

    def upsert(self, records: Sequence[Mapping[str, Any]], bundle: Bundle) -> int:
        """Put products in place of what their ids stood for; durable and visible when it returns.

        Args:
            records: 1 to 1,000 products, as in lines of a catalogue, each of another id.
            bundle: Every product must have all that it reads.

        Returns:
            The number of the last change.

        Raises:
            ProductError: When one breaks a rule; none is changed then.
            StoreFullError: When the changes before have to be compacted first.
            ChangeLogError: When the disk refuses; none is changed then.
        """
        reader = RecordReader(bundle)
        for index, value in enumerate(records):
            reader.read(value, f"products[{index}]")
        return self._change([Change(value["id"], dump_record(value)) for value in records])

    def delete(self, product_ids: Sequence[str]) -> int:
        """Let ids stand for no product; durable and visible when it returns.

        Returns:
            The number of the last change.

        Raises:
            ProductError: When an id breaks a rule; none is changed then.
            ChangeLogError: When the disk refuses; none is changed then.
        """
        for index, product_id in enumerate(product_ids):
            check_id(product_id, f"product_ids[{index}]")
        return self._change([Change(product_id, None) for product_id in product_ids])

    def catch_up(self) -> None:
        """Put what other processes appended over every store."""
        with self._lock:
            self._held = self._living()
            for held in self._held:
                _catch_up(held, self.log)

    def compact(self, *, least_share: float = 0.0) -> int:
        """Compact stores whose changes take more than a share of their room; return how many.

        Requests go on meanwhile. A store that another process is compacting is left alone.
        """
        count = 0
        with self._lock:
            due = [held for held in self._living() if held.full or held.taken > least_share]
        for held in due:
            served = held.served
            if served is None:
                continue
            with _alone(self.folder) as alone:
                newest = self._newest(held.origin, served.bundle)
                # from the newest store only: another process may have removed an older one
                if newest is None or newest[0] <= held.store_through:
                    if not alone or self.log.last() <= held.store_through:
                        continue
                    newest = self._write_generation(held, served)
                self._move_to(newest[1], held, served)
                if alone:
                    self._remove_old(held.origin, served.bundle, newest[0])
            count += 1
        return count

    def _change(self, changes: list[Change]) -> int:
        _check_changes(changes)
        with self._lock:
            living = self._living()
            for held in living:
                held.catch_up(self.log)
                held.refuse_beyond(changes)
            ready = [held.encode(changes) for held in living]
            last = self.log.append(changes)
            before = last - len(changes)
            fresh = any(change.fresh for change in self.log.read(before, MAX_CHANGES, through=last))
            for held, encoded in zip(living, ready, strict=True):
                if held.applied == before and not fresh:
                    held.put(encoded, last)
                else:  # another process appended in between, or a product was deleted before
                    held.catch_up(self.log)
        return last

    def _open(self, served: Served, products_path: Path) -> HeldStore:
        """Open the newest store for a bundle, compacting before when changes do not fit."""
        bundle = served.bundle
        base = read_manifest(products_path)
        newest = self._newest(base.origin, bundle)
        spare = self._spare_rows or spare_rows_for(base.rows)
        folder = products_path if newest is None else newest[1]
        try:
            store = ProductStore.open(folder, bundle, spare_rows=spare)
        except ProductStoreError as error:
            if newest is None:
                raise
            _LOG.warning("compacted store unusable", extra={"fields": {"reason": str(error)}})
            shutil.rmtree(folder, ignore_errors=True)
            folder = products_path
            store = ProductStore.open(folder, bundle, spare_rows=spare)
        held = HeldStore(served, folder, store, base.origin)
        if self.log.count(held.store_through) > COMPACT_AT * spare:
            through = self.log.last()
            out = self._path(base.origin, bundle, through)
            with _alone(self.folder, wait=True):
                self._remove_cut()
                compact(folder, bundle, held.encoder, self.log, out, through)
            store = ProductStore.open(out, bundle, spare_rows=spare)
            held = HeldStore(served, out, store, base.origin)
        return held

    def _write_generation(self, held: HeldStore, served: Served) -> tuple[int, Path]:
        through = self.log.last()  # also what does not fit over the store
        out = self._path(held.origin, served.bundle, through)
        started = time.monotonic()
        self._remove_cut()
        compact(held.folder, served.bundle, held.encoder, self.log, out, through)
        fields = {"changes_through": through, "took_s": round(time.monotonic() - started, 2)}
        _LOG.info("products compacted", extra={"fields": fields})
        return through, out

    def _move_to(self, folder: Path, held: HeldStore, served: Served) -> None:
        spare = self._spare_rows or spare_rows_for(read_manifest(folder).rows)
        store = ProductStore.open(folder, served.bundle, spare_rows=spare)
        following = HeldStore(served, folder, store, held.origin)
        _catch_up(following, self.log)
        with self._lock:
            _catch_up(following, self.log)  # what came since
            if self._exchange is None:
                served.take_products(store)
            else:
                exchanged = self._exchange(served, store)
                if exchanged is None:  # not served yet, or no more
                    return
                following.served_by(exchanged)
            self._held = [*(item for item in self._living() if item is not held), following]

    def _run(self) -> None:
        _lower_priority()
        while not self._stopping.wait(FOLLOW_EVERY_S):
            try:
                self.catch_up()
                self.compact(least_share=COMPACT_AT)
            except RerankError as error:
                # what is served is served on; the next turn tries again
                _LOG.error("changes of products", extra={"fields": {"reason": str(error)}})
                self._stopping.wait(5.0)
            except Exception:  # noqa: BLE001 - the thread has to go on
                _LOG.exception("following changes of products failed")
                self._stopping.wait(5.0)

    def _living(self) -> list[HeldStore]:
        return [held for held in self._held if held.served is not None]

    def _path(self, origin: str, bundle: Bundle, through: int) -> Path:
        return self.folder / f"{_stem(origin, bundle)}{through:015d}"

    def _newest(self, origin: str, bundle: Bundle) -> tuple[int, Path] | None:
        """Return the number and folder of the newest compacted store for a bundle."""
        found = [
            (int(path.name.rpartition("-")[2]), path)
            for path in self.folder.glob(f"{_stem(origin, bundle)}*")
            if path.name.rpartition("-")[2].isdigit()
        ]
        return max(found, default=None)

    def _remove_cut(self) -> None:
        """Remove what compactions that were killed left behind; only who compacts alone may."""
        for path in self.folder.glob(".store-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _remove_old(self, origin: str, bundle: Bundle, newest: int) -> None:
        """Remove the generations that this one replaces, and old ones of other bundles."""
        with self._lock:
            used = {held.folder for held in self._living()}
        stem, now = _stem(origin, bundle), time.time()
        for path in self.folder.glob("store-*"):
            if path in used:
                continue
            if path.name.startswith(stem):
                outdated = int(path.name.rpartition("-")[2]) < newest
            else:
                outdated = now - path.stat().st_mtime > _KEPT_S
            if outdated:
                shutil.rmtree(path, ignore_errors=True)


def _catch_up(held: HeldStore, log: ChangeLog) -> None:
    """Put what fits over a store; for the rest a compaction is due."""
    try:
        held.catch_up(log)
    except StoreFullError:
        _LOG.debug("no room for changes", exc_info=True)


def dump_record(value: Mapping[str, Any]) -> str:
    """Return a product as one line of JSON.

    Raises:
        ProductError: When a value is none of JSON.
    """
    try:
        return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ProductError(f"product: got {error}, want JSON values") from error


def _check_changes(changes: Sequence[Change]) -> None:
    if not 1 <= len(changes) <= MAX_CHANGES:
        raise ProductError(f"changes: got {len(changes)}, want 1 to {MAX_CHANGES}")
    seen: set[str] = set()
    for index, change in enumerate(changes):
        if change.product_id in seen:
            raise ProductError(
                f"changes[{index}]: got id {change.product_id!r} twice, want each product once"
            )
        seen.add(change.product_id)


@contextmanager
def _alone(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Yield whether this process alone compacts now; when told to, wait until it does."""
    with (folder / _LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
        else:
            yield True


def _stem(origin: str, bundle: Bundle) -> str:
    return f"store-{origin[:12]}-{bundle.manifest.bundle_id[:12]}-"


def _lower_priority() -> None:
    """Let requests go before this thread, where the system can tell threads apart."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
    except (AttributeError, OSError):  # not Linux, or not allowed
        return

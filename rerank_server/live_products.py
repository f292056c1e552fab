"""Products that change while they are served: the log, the stores held, and their compaction.

A change is appended to the log, where it is durable, and then put over every store that is held,
where the next request sees it; only then is it acknowledged. Each server follows the log, so any of
several may take changes, and so may the command line. One of them at a time compacts: it writes a
store with the changes in its files beside the log and exchanges it between two requests. A store
that is built anew in the folder of one that is held takes its place in the same way.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rerank_server.compacted_stores import CompactedStores
from rerank_server.contract.bundle import Bundle
from rerank_server.contract.errors import ProductStoreError, RerankError
from rerank_server.held_store import HeldStore, Served
from rerank_server.product_changes import Change, ChangeLog, ChangeLogError
from rerank_server.product_compaction import compact
from rerank_server.product_overlay import StoreFullError, spare_rows_for
from rerank_server.product_records import ProductError, RecordReader, check_id, dump_record
from rerank_server.product_store import ProductStore, StoreManifest, read_manifest

MAX_CHANGES = 1_000
# Other processes' changes are seen after at most this long.
FOLLOW_EVERY_S = 0.2
# Compaction begins when this share of the room for changes is taken.
COMPACT_AT = 0.5
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
        self._stores = CompactedStores(self.folder)
        self._spare_rows = spare_rows
        self._lock = threading.RLock()  # held while stores change
        self._held: list[HeldStore] = []
        self._exchange: Exchange | None = None
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def attach(self, served: Served, products_path: Path) -> None:
        """Put the store of `products_path` with all changes in use there, before it serves.

        Raises:
            ProductStoreError: When the store is broken or of another bundle.
            ChangeLogError: When the log cannot be read, or the store holds changes that it lacks.
        """
        held = self._open(served, Path(products_path))
        held.catch_up(self.log)
        with self._lock:
            held.catch_up(self.log)  # what came since: products change while a store is attached
            served.take_products(held.store)
            self._held = [*self._living(), held]

    def follow(self, exchange: Exchange) -> None:
        """Follow the log and compact, each in a thread of its own, until `close`.

        Args:
            exchange: Puts a store in place of that of what is served, between two requests, and
                returns what is served then; None where it is not served (yet, or no more).
        """
        self._exchange = exchange
        # a compaction copies the whole store: what others append is shown meanwhile
        for name, turn in (("products", self.catch_up), ("compaction", self._renew)):
            thread = threading.Thread(target=self._run, args=(turn,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Stop following and close the log."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self.log.close()

    def upsert(self, records: Sequence[Mapping[str, Any]], bundle: Bundle) -> int:
        """Put products in place of what their ids stood for; durable and visible when it returns.

        Where another process took the room at the same moment, visible after a compaction only.

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

    @property
    def shown(self) -> int:
        """Number of the newest change up to which every store shows all; 0 without a store."""
        return min((held.applied for held in self._living()), default=0)

    def shows(self, change: int) -> bool:
        """Return whether every store shows the changes up to a number; catches up where not."""
        if self.shown < change:
            self.catch_up()
        return self.shown >= change

    def take_rebuilt(self) -> int:
        """Serve stores that were built anew where those held lie, with the changes over them.

        One that cannot be served is named in the log once; the one before it is served on.

        Returns:
            How many were exchanged.

        Raises:
            ChangeLogError: When the log cannot be read.
        """
        count = 0
        for held in self._living():
            served, origin = held.served, _origin_at(held.base)
            if served is None or origin in {None, held.origin, held.refused_origin}:
                continue
            try:
                following = self._open(served, held.base)
            except (ProductStoreError, ChangeLogError) as error:
                held.refused_origin = origin or ""
                fields: dict[str, Any] = {"reason": str(error)}
                _LOG.warning("store built anew is not served", extra={"fields": fields})
                continue
            if self._move_to(following, held, served):
                with self._stores.alone() as alone:
                    if alone:  # every process does it, after its own exchange
                        self._stores.remove(held.origin, served.bundle)
                changes = self.log.count(following.manifest.changes_through)
                fields = {"products": following.store.size, "changes_over_it": changes}
                _LOG.info("store built anew is served", extra={"fields": fields})
                count += 1
        return count

    def compact(self, *, least_share: float = 0.0) -> int:
        """Compact stores whose changes take more than a share of their room; return how many.

        Requests go on meanwhile. A store that another process is compacting is left alone.

        Raises:
            RerankError: When one cannot be compacted; the others are.
        """
        count, errors = 0, []
        with self._lock:
            due = [held for held in self._living() if held.full or held.taken > least_share]
        for held in due:
            served = held.served
            if served is None:
                continue
            try:
                count += self._compact_one(held, served)
            except RerankError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return count

    def _compact_one(self, held: HeldStore, served: Served) -> bool:
        with self._stores.alone() as alone:
            newest = self._stores.newest(held.origin, served.bundle)
            # from the newest store only: another process may have removed an older one
            if newest is None or newest[0] <= held.store_through:
                if not alone or self.log.last() <= held.store_through:
                    return False
                newest = self._write_compacted(held, served.bundle)
            following = self._open_at(newest[1], served, held.base, held.origin)
            self._move_to(following, held, served)
            if alone:
                with self._lock:
                    used = {item.folder for item in self._living()}
                self._stores.remove_old(held.origin, served.bundle, newest[0], used)
        return True

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
            appended = self.log.read(before, MAX_CHANGES, through=last)
            for held, encoded in zip(living, ready, strict=True):
                if held.applied == before and held.keeps(appended):
                    held.put(encoded, last)
                else:  # another process appended in between, or a product was deleted before
                    _catch_up(held, self.log)  # they are in the log: no refusal any more
        return last

    def _open(self, served: Served, base: Path) -> HeldStore:
        """Open the newest store for a bundle, compacting before when changes do not fit."""
        manifest = read_manifest(base)
        self._check_log(base, manifest, "build that store again")
        held = self._open_newest(served, base, manifest.origin)
        room = self._spare_rows or spare_rows_for(manifest.rows)
        if self.log.count(held.store_through) <= COMPACT_AT * room:
            return held
        with self._stores.alone(wait=True):
            newest = self._stores.newest(manifest.origin, served.bundle)
            if newest is None or newest[0] <= held.store_through:  # no other process did it
                newest = self._write_compacted(held, served.bundle)
            return self._open_at(newest[1], served, base, manifest.origin)

    def _open_newest(self, served: Served, base: Path, origin: str) -> HeldStore:
        newest = self._stores.newest(origin, served.bundle)
        if newest is None:
            return self._open_at(base, served, base, origin)
        try:
            return self._open_at(newest[1], served, base, origin)
        except ProductStoreError as error:
            if self._stores.newest(origin, served.bundle) != newest:
                return self._open_newest(served, base, origin)  # another process replaced it
            _LOG.warning("compacted store unusable", extra={"fields": {"reason": str(error)}})
            shutil.rmtree(newest[1], ignore_errors=True)
        return self._open_at(base, served, base, origin)

    def _open_at(self, folder: Path, served: Served, base: Path, origin: str) -> HeldStore:
        spare = self._spare_rows or spare_rows_for(read_manifest(folder).rows)
        store = ProductStore.open(folder, served.bundle, spare_rows=spare)
        held = HeldStore(served, folder, store, base)
        if held.origin != origin:
            raise ProductStoreError(
                f"{folder}: got a store that was replaced while it was opened, want it to stay;"
                " open it again"
            )
        if folder != base:
            self._check_log(folder, held.manifest, "remove that folder")
        return held

    def _check_log(self, folder: Path, manifest: StoreManifest, otherwise: str) -> None:
        """Refuse a store that holds changes of another log, or more than this one has.

        Raises:
            ChangeLogError: When it does: numbers of changes would mean two things.
        """
        through, last = manifest.changes_through, self.log.last()
        if through and manifest.changes_log not in {"", self.log.name}:
            raise ChangeLogError(
                f"{self.log.path}: got another log than the one whose changes {folder} holds, want"
                f" that one; put it back, or {otherwise}"
            )
        if through > last:
            raise ChangeLogError(
                f"{self.log.path}: got changes up to {last}, want those up to {through} that"
                f" {folder} holds; put the log's newest copy back, or {otherwise}"
            )

    def _write_compacted(self, held: HeldStore, bundle: Bundle) -> tuple[int, Path]:
        """Write a store with all changes, also those that do not fit over it; only who is alone."""
        through = self.log.last()
        out = self._stores.path(held.origin, bundle, through)
        started = time.monotonic()
        self._stores.remove_cut()
        source, manifest = held.folder, held.manifest
        if not source.exists() and _origin_at(held.base) == held.origin:
            # that copy was removed, by a person or by a server that has another bundle
            source, manifest = held.base, read_manifest(held.base)
        compact(source, manifest, bundle, held.encoder, self.log, out, through)
        fields = {"changes_through": through, "took_s": round(time.monotonic() - started, 2)}
        _LOG.info("products compacted", extra={"fields": fields})
        return through, out

    def _move_to(self, following: HeldStore, held: HeldStore, served: Served) -> bool:
        """Serve one store in place of another; False where the other is not served (any more)."""
        _catch_up(following, self.log)
        with self._lock:
            _catch_up(following, self.log)  # what came since
            if self._exchange is None:
                served.take_products(following.store)
            else:
                exchanged = self._exchange(served, following.store)
                if exchanged is None:
                    return False
                following.served_by(exchanged)
            self._held = [*(item for item in self._living() if item is not held), following]
        return True

    def _renew(self) -> None:
        self.take_rebuilt()
        self.compact(least_share=COMPACT_AT)

    def _run(self, turn: Callable[[], object]) -> None:
        _lower_priority()
        while not self._stopping.wait(FOLLOW_EVERY_S):
            try:
                turn()
            except RerankError as error:
                # what is served is served on; the next turn tries again
                _LOG.error("changes of products", extra={"fields": {"reason": str(error)}})
                self._stopping.wait(5.0)
            except Exception:  # noqa: BLE001 - the thread has to go on
                _LOG.exception("following changes of products failed")
                self._stopping.wait(5.0)

    def _living(self) -> list[HeldStore]:
        return [held for held in self._held if held.served is not None]


def _catch_up(held: HeldStore, log: ChangeLog) -> None:
    """Put what fits over a store; for the rest a compaction is due."""
    try:
        held.catch_up(log)
    except StoreFullError:
        _LOG.debug("no room for changes", exc_info=True)


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


def _origin_at(folder: Path) -> str | None:
    """Return which build lies in a folder; None when there is none just now."""
    try:
        return read_manifest(folder).origin
    except ProductStoreError:
        return None


def _lower_priority() -> None:
    """Let requests go before this thread, where the system can tell threads apart."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
    except (AttributeError, OSError):  # not Linux, or not allowed
        return

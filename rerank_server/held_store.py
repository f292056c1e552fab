"""One opened product store with the number of the last change that it shows."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from rerank_server.contract.bundle import Bundle
from rerank_server.contract.errors import ProductStoreError
from rerank_server.contract.graph_inputs import Graph
from rerank_server.product_changes import Change, ChangeLog
from rerank_server.product_compaction import Prepared, prepare
from rerank_server.product_overlay import StoreFullError
from rerank_server.product_records import EncodedProducts, ProductEncoder, RecordReader
from rerank_server.product_store import ProductStore

_BATCH = 512


class Served(Protocol):
    """A bundle with its product store."""

    bundle: Bundle
    products: ProductStore

    def take_products(self, products: ProductStore) -> None:
        """Serve another store of the same bundle."""
        ...

    @property
    def product_graph(self) -> Graph:
        """The graph that encodes products."""
        ...


class HeldStore:
    """A store opened with room for changes."""

    def __init__(self, served: Served, folder: Path, store: ProductStore, base: Path) -> None:
        """Show changes to `served` from what the files of `folder` hold on.

        Args:
            served: A bundle with its product store.
            folder: Of the store.
            store: Opened with room for changes.
            base: Folder of the catalogue's store, from which that of `folder` was compacted, or
                `folder` itself.

        Raises:
            ProductStoreError: When the store has no room for any.
        """
        if store.manifest is None or store.overlay is None:
            raise ProductStoreError(f"{folder}: got a store without spare rows, want some")
        self.folder = folder
        self.store = store
        self.base = base
        self.manifest = store.manifest
        self.store_through = self.applied = store.manifest.changes_through
        self.full = False  # whether changes of the log found no room
        self.refused_origin = ""  # of a store built anew at `base` that cannot be taken
        self.encoder = ProductEncoder(served.bundle, served.product_graph)
        self._served = weakref.ref(served)
        self._overlay = store.overlay
        self._reader = RecordReader(served.bundle)

    @property
    def served(self) -> Served | None:
        """What serves it; None when nothing does any more."""
        return self._served()

    def served_by(self, served: Served) -> None:
        """Say what serves it."""
        self._served = weakref.ref(served)

    @property
    def origin(self) -> str:
        """Names the build of the catalogue that it comes from."""
        return self.manifest.origin

    @property
    def taken(self) -> float:
        """Share of the room for changes that is taken."""
        return self._overlay.used / max(self._overlay.capacity, 1)

    def refuse_beyond(self, changes: Sequence[Change]) -> None:
        """Refuse what there is no room for.

        Raises:
            StoreFullError: When there is none.
        """
        self._overlay.refuse_beyond(sum(change.record is not None for change in changes))

    def keeps(self, changes: Sequence[Change]) -> bool:
        """Return whether no product of the changes was deleted since the files were written.

        What the files have of one that was is void.
        """
        return all(
            change.record is None or change.deleted <= self.store_through for change in changes
        )

    def encode(
        self, changes: Sequence[Change], *, lenient: bool = False
    ) -> tuple[Prepared, EncodedProducts | None]:
        """Return changes as rows; `lenient` as in `ProductEncoder.encode`.

        Raises:
            ProductError: When `product.onnx` gives no finite vector.
        """
        prepared = prepare(self._reader, changes, self.store_through)
        if not prepared.records:
            return prepared, None
        base_rows = self.store.base_rows([record.product_id for record in prepared.records])
        held = np.array(prepared.kept, np.bool_)
        factors = np.where(held[:, np.newaxis], self.store.table.factors[base_rows], 0)
        rows = self.encoder.encode(prepared.records, factors.astype(np.float32), lenient=lenient)
        return prepared, rows

    def put(self, encoded: tuple[Prepared, EncodedProducts | None], last: int) -> None:
        """Put changes up to number `last` over the store."""
        prepared, rows = encoded
        if rows is not None:
            ids = [record.product_id for record in prepared.records]
            self._overlay.put(ids, self.store.base_rows(ids), rows, prepared.kept)
        if prepared.removed:
            self._overlay.remove(prepared.removed, self.store.base_rows(prepared.removed))
        self.applied = last

    def catch_up(self, log: ChangeLog) -> None:
        """Put what the log holds besides over the store.

        Raises:
            StoreFullError: When there is no room for it.
            ChangeLogError: When the log cannot be read.
        """
        while changes := log.read(self.applied, _BATCH):
            try:
                self.refuse_beyond(changes)  # before they are encoded in vain
                self.put(self.encode(changes, lenient=True), changes[-1].sequence)
            except StoreFullError:
                self.full = True
                raise
        self.full = False

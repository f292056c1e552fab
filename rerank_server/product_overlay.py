"""Changes of products over the mapped columns of a store, seen by the next request.

A changed product gets a row of its own behind those of the files; its old row stays as it was, so
a request that has looked it up keeps seeing one whole product. Only then is the id's row exchanged,
by one write. Nothing here is durable: the log of changes is (`product_changes.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rerank_server.contract.errors import RerankError
from rerank_server.contract.page import Floats, Rows
from rerank_server.product_records import EncodedProducts
from rerank_server.product_vectors import Vectors


class StoreFullError(RerankError):
    """No spare row is left for a changed product until the changes are compacted."""


class ProductOverlay:
    """The changed products of one opened store; one thread changes it, any may read."""

    def __init__(self, columns: dict[str, Any], vectors: Vectors, *, first_row: int) -> None:
        """Put changes into the rows from `first_row`, which holds the unknown product, on."""
        self._columns = columns
        self._vectors = vectors
        self._first_row = first_row
        self._unknown = int(vectors.shape[0]) - 1
        for column in (*columns.values(), vectors):
            column[self._unknown] = column[first_row]
        # zeros that nothing writes take no memory: what is kept is the distance to the row
        self._moved = np.zeros(self._unknown + 1, np.int32)
        self._moved[first_row] = self._unknown - first_row
        self._names = np.zeros(self._unknown + 1, np.int32)
        self._new: dict[str, int] = {}
        self._next = first_row + 1
        self.added = 0  # products more than in the files
        self.changed = False

    @property
    def capacity(self) -> int:
        """Rows for changed products."""
        return self._unknown - self._first_row - 1

    @property
    def used(self) -> int:
        """Rows that are taken."""
        return self._next - self._first_row - 1

    @property
    def free(self) -> int:
        """Rows that are left."""
        return self.capacity - self.used

    def current(self, product_ids: Sequence[str], rows: Rows) -> Rows:
        """Return the rows of ids now, from those that the files give them."""
        current: Rows = rows + self._moved[rows]
        if self._new:
            for index in np.flatnonzero(rows == self._first_row).tolist():
                current[index] = self._new.get(product_ids[index], self._unknown)
        return current

    def named_as(self, rows: Rows) -> Rows:
        """Return the rows under which lists of neighbours name the products of `rows`."""
        return rows + self._names[rows] if self.changed else rows

    def put(
        self,
        product_ids: Sequence[str],
        base_rows: Rows,
        encoded: EncodedProducts,
        kept: Sequence[bool],
    ) -> None:
        """Put products in place of what their ids stand for.

        Args:
            product_ids: Their ids.
            base_rows: Their rows in the files.
            encoded: What they are now.
            kept: Whether each keeps the factors and neighbours that the files have for it.

        Raises:
            StoreFullError: When there are more of them than free rows; none is put then.
        """
        count = len(product_ids)
        self.refuse_beyond(count)
        start = self._next
        part = slice(start, start + count)
        for name, values in encoded.columns().items():
            self._columns[name][part] = values
        sources = np.where(kept, base_rows, self._unknown)
        for name in ("factors", "neighbours", "neighbour_weights"):
            self._columns[name][part] = self._columns[name][sources]
        self._vectors[part] = encoded.vectors
        known = base_rows != self._first_row
        self._names[part] = np.where(known, base_rows - np.arange(start, start + count), 0)
        self._next += count
        self.changed = True
        before = self.current(product_ids, base_rows)
        self.added += int(np.count_nonzero(before == self._unknown))
        for index, product_id in enumerate(product_ids):  # each by one write
            if known[index]:
                self._moved[base_rows[index]] = start + index - base_rows[index]
            else:
                self._new[product_id] = start + index

    def remove(self, product_ids: Sequence[str], base_rows: Rows) -> None:
        """Let ids stand for no product."""
        before = self.current(product_ids, base_rows)
        self.added -= int(np.count_nonzero(before != self._unknown))
        for product_id, row in zip(product_ids, base_rows.tolist(), strict=True):
            if row == self._first_row:
                self._new.pop(product_id, None)
            else:
                self._moved[row] = self._unknown - row

    def refuse_beyond(self, count: int) -> None:
        """Refuse more changes than there is room for.

        Raises:
            StoreFullError: When there is none.
        """
        if count > self.free:
            raise StoreFullError(
                f"changes: got {count} products with room for {self.free}, want fewer until the"
                " changes before are compacted; try again"
            )


def spare_rows_for(rows: int) -> int:
    """Return how many changed products a store of `rows` rows makes room for.

    Memory is taken only as products change.
    """
    return min(max(16_384, rows // 16), 262_144)


def zero_factors(count: int, width: int) -> Floats:
    """Return the factors of products that have none."""
    return np.zeros((count, width), np.float32)

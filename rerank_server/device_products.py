"""Product vectors in the memory of the device that scores, so that a page sends row numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort

from rerank_server.contract.page import Rows
from rerank_server.gather_graph import MATRIX, SCALES
from rerank_server.product_overlay import ProductOverlay
from rerank_server.product_vectors import ByteVectors, HalfVectors, Vectors


class DeviceProducts:
    """The vectors of a store's files on a device; on the CPU they are the mapped files."""

    def __init__(self, vectors: Vectors, overlay: ProductOverlay | None, device: str) -> None:
        """Copy the vectors to `device`, "cuda" or "cpu"; products changed since are left out."""
        self.device = device
        rows = int(vectors.shape[0])
        self._unknown = rows - 1
        self._rows = rows if overlay is None else rows - overlay.capacity - 1
        self.kind, stored = _stored(vectors)
        self.values: dict[str, Any] = {
            name: ort.OrtValue.ortvalue_from_numpy(_held(array[: self._rows]), device, 0)
            for name, array in stored.items()
        }

    def rows(self, rows: Rows) -> Rows | None:
        """Return the rows there of rows of the store; None when one has changed since."""
        if self._rows == self._unknown + 1:
            return rows
        # the last row of the files stands for unknown products as well
        there = np.where(rows == self._unknown, self._rows - 1, rows).astype(np.int32)
        return there if there.max(initial=0) < self._rows else None


def _stored(vectors: Vectors) -> tuple[str, dict[str, np.ndarray]]:
    if isinstance(vectors, ByteVectors):
        return "int8", {MATRIX: vectors.stored, SCALES: vectors.scales}
    if isinstance(vectors, HalfVectors):
        return "float16", {MATRIX: vectors.stored}
    return "float32", {MATRIX: np.asarray(vectors)}


def _held(array: np.ndarray) -> np.ndarray:
    """Return the array as onnxruntime wants it, without a copy where it lies that way."""
    return np.ascontiguousarray(array)

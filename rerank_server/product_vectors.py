"""Product vectors as they are stored: float32, float16, or int8 with one scale per product.

int8 is symmetric: q = round(v / scale) with scale = max |v| / 127 of the product's own vector
(as per-channel quantisation, Jacob et al. 2018), so an error is at most scale / 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rerank_server.contract.bundle import Bundle
from rerank_server.contract.errors import ProductStoreError
from rerank_server.contract.golden import Graphs, golden_scorer_pages
from rerank_server.contract.graph_inputs import ScorerPage, scorer_inputs
from rerank_server.contract.page import Floats
from rerank_server.product_columns import ColumnReader, ColumnWriter, map_column

VECTORS_FILE = "vectors.npy"
SCALES_FILE = "vector_scales.npy"
_STORED: dict[str, type[Any]] = {"float32": np.float32, "float16": np.float16, "int8": np.int8}
KINDS = tuple(_STORED)
_INT8_MAX = 127.0
_HALF_MAX = 65_504.0
_CUT_OFF = 10


class Vectors(Protocol):
    """Product vectors by row."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and width."""
        ...

    def __getitem__(self, rows: Any, /) -> Any:  # noqa: ANN401 - as numpy's own
        """Return the vectors of rows, or of one row, as float32."""
        ...

    def __setitem__(self, row: Any, vector: Any, /) -> None:  # noqa: ANN401 - as numpy's own
        """Store the vector of a row, where the store takes changes."""
        ...


class HalfVectors:
    """Vectors kept as float16."""

    def __init__(self, stored: npt.NDArray[np.float16]) -> None:
        self.stored = stored
        self.shape: tuple[int, ...] = stored.shape

    def __getitem__(self, rows: Any) -> Floats:  # noqa: ANN401 - as numpy's own
        """Return the vectors of rows as float32."""
        vectors: Floats = self.stored[rows].astype(np.float32)
        return vectors

    def __setitem__(self, row: Any, vector: Floats) -> None:  # noqa: ANN401 - as numpy's own
        """Store the vector of a row, numbers beyond its range as the largest there is."""
        self.stored[row] = np.clip(vector, -_HALF_MAX, _HALF_MAX)


class ByteVectors:
    """Vectors kept as int8 with a scale each."""

    def __init__(self, stored: npt.NDArray[np.int8], scales: Floats) -> None:
        self.stored = stored
        self.scales = scales
        self.shape: tuple[int, ...] = stored.shape

    def __getitem__(self, rows: Any) -> Floats:  # noqa: ANN401 - as numpy's own
        """Return the vectors of rows as float32."""
        vectors: Floats = self.stored[rows].astype(np.float32)
        vectors *= self.scales[rows, np.newaxis]
        return vectors

    def __setitem__(self, row: Any, vector: Floats) -> None:  # noqa: ANN401 - as numpy's own
        """Store the vector of a row."""
        self.stored[row], self.scales[row] = to_bytes(vector)


def to_bytes(vectors: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return vectors, shape (..., width), as int8 with their scales, shape (...)."""
    largest = np.abs(vectors).max(axis=-1, initial=0.0)
    scales = np.maximum(largest / _INT8_MAX, np.finfo(np.float32).tiny).astype(np.float32)
    return np.rint(vectors / scales[..., np.newaxis]).astype(np.int8), scales


def check_kind(kind: str) -> None:
    """Refuse what vectors cannot be stored as.

    Raises:
        ProductStoreError: When it is unknown.
    """
    if kind not in KINDS:
        raise ProductStoreError(f"vectors: got {kind!r}, want one of {', '.join(KINDS)}")


def held_as(vectors: Floats, kind: str) -> Vectors:
    """Return vectors, shape (rows, width), as they are stored as `kind`."""
    if kind == "float32":
        return vectors
    if kind == "float16":
        return HalfVectors(to_half(vectors))
    return ByteVectors(*to_bytes(vectors))


class VectorWriter:
    """Appends vectors to the files that `map_vectors` opens."""

    def __init__(
        self, folder: Path, kind: str, shape: tuple[int, int], *, rows_done: int = 0
    ) -> None:
        """Write vectors of `shape`, or go on after the first `rows_done`."""
        self._kind = kind
        self._columns = [
            ColumnWriter(folder / VECTORS_FILE, _STORED[kind], shape, rows_done=rows_done)
        ]
        if kind == "int8":
            path = folder / SCALES_FILE
            self._columns.append(ColumnWriter(path, np.float32, (shape[0],), rows_done=rows_done))

    def append(self, vectors: Floats) -> None:
        """Write the next vectors."""
        for column, part in zip(self._columns, self._parts(vectors), strict=True):
            column.append(part)

    def put(self, rows: npt.NDArray[np.integer[Any]], vectors: Floats) -> None:
        """Write some vectors, which may be there already or stand behind the last.

        Numbers beyond float16 are cut to its range, as they are while served.
        """
        if self._kind == "float16":
            largest = np.finfo(np.float16).max
            vectors = np.clip(vectors, -largest, largest)
        for column, part in zip(self._columns, self._parts(vectors), strict=True):
            column.put(rows, part)

    def copy(self, path: Path) -> None:
        """Append what a file of another store of the same kind holds, `vectors.npy` first."""
        column = self._columns[path.name == SCALES_FILE]
        for block in ColumnReader(path).blocks():
            column.append(block)

    def _parts(self, vectors: Floats) -> Sequence[npt.ArrayLike]:
        if self._kind == "float16":
            return (to_half(vectors),)
        if self._kind == "int8":
            return to_bytes(vectors)
        return (vectors,)

    def sync(self) -> None:
        """Put on disk what was appended."""
        for column in self._columns:
            column.sync()

    def close(self) -> None:
        """Close the files."""
        for column in self._columns:
            column.close()


def to_half(vectors: Floats) -> npt.NDArray[np.float16]:
    """Return vectors as float16.

    Raises:
        ProductStoreError: When a number is beyond its range.
    """
    with np.errstate(over="ignore"):
        halves = vectors.astype(np.float16)
    if not np.isfinite(halves).all():
        raise ProductStoreError(
            f"vectors: got a number of {np.abs(vectors).max():.3g}, want at most 65504 for"
            " float16; store them as int8 or float32"
        )
    return halves


def map_vectors(folder: Path, kind: str, shape: tuple[int, int], *, spare_rows: int = 0) -> Vectors:
    """Map the vectors of a store; plain float32 ones are a numpy array.

    Raises:
        ProductStoreError: When a file is missing, cut, or holds something else.
    """
    check_kind(kind)
    stored = map_column(folder / VECTORS_FILE, shape, _STORED[kind], spare_rows=spare_rows)
    if kind == "float16":
        return HalfVectors(stored)
    if kind == "int8":
        path = folder / SCALES_FILE
        return ByteVectors(stored, map_column(path, shape[:1], np.float32, spare_rows=spare_rows))
    return stored


@dataclass(frozen=True, slots=True)
class VectorLoss:
    """What a kind of storage costs on the golden pages of a bundle.

    Attributes:
        largest_score_difference: Of any candidate's probability, in [0, 1].
        ndcg_at_10: Mean over pages of the DCG@10 of the order with stored vectors, with the
            float32 scores as gains, divided by that of the float32 order; 1 is no loss.
        same_first_share: Share of the pages on which both orders put the same product first.
    """

    largest_score_difference: float
    ndcg_at_10: float
    same_first_share: float


def measure_loss(bundle: Bundle, graphs: Graphs, kind: str) -> VectorLoss | None:
    """Score the golden pages with vectors stored as `kind`; None when nothing is lost."""
    if kind == "float32":
        return None
    schema, golden = bundle.schema, bundle.golden
    differences, gains, same_first = [], [], []
    for page in golden_scorer_pages(golden, schema, bundle.text_encoder, graphs):
        exact = graphs.scorer(scorer_inputs([page]))["probabilities"][0]
        stored = graphs.scorer(scorer_inputs([_stored(page, kind)]))["probabilities"][0]
        weights = bundle.manifest.objective_weights[schema.surfaces[page.surface]]
        mix = np.array([weights[name] for name in schema.objectives], np.float32)
        differences.append(float(np.abs(exact - stored).max()))
        want, got = exact @ mix, stored @ mix
        gains.append(_dcg(want, got) / max(_dcg(want, want), 1e-30))
        same_first.append(float(np.argmax(want) == np.argmax(got)))
    return VectorLoss(
        max(differences, default=0.0), float(np.mean(gains)), float(np.mean(same_first))
    )


def _stored(page: ScorerPage, kind: str) -> ScorerPage:
    return ScorerPage(
        query_vector=page.query_vector,
        surface=page.surface,
        candidate_vectors=held_as(page.candidate_vectors, kind)[:],
        categories=page.categories,
        dense=page.dense,
        sequence_vectors=held_as(page.sequence_vectors, kind)[:],
        sequence_features=page.sequence_features,
    )


def _dcg(gains: Floats, scores: Floats) -> float:
    """DCG@10 with the gains as they are (Jarvelin and Kekalainen 2002)."""
    best = np.argsort(-scores, kind="stable")[:_CUT_OFF]
    return float((gains[best] / np.log2(np.arange(best.shape[0]) + 2.0)).sum())

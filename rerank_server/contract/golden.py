"""Golden pages: raw pages with the products they need and the scores that Paddle gave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rerank_server.contract.errors import BundleError
from rerank_server.contract.features import FeatureEncoder
from rerank_server.contract.graph_inputs import (
    Graph,
    ProductBatch,
    ScorerPage,
    product_inputs,
    query_inputs,
    scorer_inputs,
)
from rerank_server.contract.page import Floats, History, Page, Rows
from rerank_server.contract.products import ProductTable
from rerank_server.contract.schema import Schema, normalise
from rerank_server.contract.text import TextEncoder


@dataclass(frozen=True, slots=True)
class Golden:
    """Pages that every new home of a bundle must score as Paddle did.

    Attributes:
        table: The products of the pages and of their histories; pages refer to its rows.
        texts: Text of each row of `table`, the unknown row included.
        identities: Identity row of each row of `table`.
        pages: Raw pages.
        probabilities: What Paddle gave each page, shape (candidates, objectives).
        vectors: Named vectors of each row of `table`, by name, as in `ProductBatch`.
    """

    table: ProductTable
    texts: tuple[str, ...]
    identities: Rows
    pages: tuple[Page, ...]
    probabilities: tuple[Floats, ...]
    vectors: Mapping[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Graphs:
    """The three graphs of a bundle as functions from input arrays to output arrays."""

    product: Graph
    query: Graph
    scorer: Graph


def subset_products(table: ProductTable, pages: Sequence[Page]) -> tuple[Rows, ProductTable]:
    """Return the rows that `pages` touch, the unknown row last, and the table of only those.

    Neighbours outside the subset become padding; none of them is a candidate, so no feature
    changes. `gram` stays that of all products.
    """
    touched = np.concatenate([rows for page in pages for rows in (page.rows, page.history.rows)])
    rows = np.union1d(touched, [table.unknown_row]).astype(np.int32)  # the unknown row is largest
    slots = np.full(table.unknown_row + 1, -1, np.int32)
    slots[rows] = np.arange(rows.shape[0], dtype=np.int32)
    inside = table.neighbours[rows] >= 0
    neighbours = np.where(inside, slots[table.neighbours[rows]], -1).astype(np.int32)
    return rows, ProductTable(
        categories=np.asarray(table.categories[rows]),
        levels=np.asarray(table.levels[rows]),
        attributes=np.asarray(table.attributes[rows]),
        stats=np.asarray(table.stats[rows]),
        factors=np.asarray(table.factors[rows]),
        neighbours=neighbours,
        neighbour_weights=np.where(neighbours >= 0, table.neighbour_weights[rows], 0).astype(
            np.float32
        ),
        gram=np.asarray(table.gram),
        as_of_day=table.as_of_day,
    )


def move_page(page: Page, rows: Rows) -> Page:
    """Return `page` with its product rows as positions in `rows`, which is sorted."""
    history = page.history
    return Page(
        query=page.query,
        surface=page.surface,
        time=page.time,
        rows=np.searchsorted(rows, page.rows).astype(np.int32),
        retrieval_scores=page.retrieval_scores,
        signals=page.signals,
        history=History(
            rows=np.searchsorted(rows, history.rows).astype(np.int32),
            times=history.times,
            kinds=history.kinds,
            same_place=history.same_place,
            discounted=history.discounted,
        ),
    )


def golden_scorer_pages(
    golden: Golden, schema: Schema, text_encoder: TextEncoder, graphs: Graphs
) -> list[ScorerPage]:
    """Return what the scorer gets for each golden page, computed from the raw page on."""
    table = golden.table
    batch = ProductBatch(
        texts=golden.texts,
        categories=table.categories,
        levels=table.levels,
        attributes=table.attributes,
        identities=golden.identities,
        factors=table.factors,
        vectors=golden.vectors,
    )
    vectors = graphs.product(product_inputs(batch, text_encoder, schema.vectors))["vectors"]
    queries = [page.query for page in golden.pages]
    query_vectors = graphs.query(query_inputs(queries, text_encoder))["vectors"]
    encoder = FeatureEncoder(schema, table.unknown_row + 1)
    pages = []
    for page, query_vector in zip(golden.pages, query_vectors, strict=True):
        encoded = encoder.encode(page, table)
        pages.append(
            ScorerPage(
                query_vector=query_vector,
                surface=page.surface,
                candidate_vectors=vectors[encoded.rows],
                categories=encoded.categories,
                dense=normalise(schema, encoded.dense),
                sequence_vectors=vectors[encoded.sequence_rows],
                sequence_features=encoded.sequence_features,
            )
        )
    return pages


def replay_golden(
    golden: Golden, schema: Schema, text_encoder: TextEncoder, graphs: Graphs
) -> float:
    """Score the golden pages one by one and return the largest difference to Paddle's scores.

    Returns:
        As `score_difference`; infinity when a score is not a finite number.
    """
    largest = 0.0
    scales = score_scales(golden)
    pages = golden_scorer_pages(golden, schema, text_encoder, graphs)
    for page, expected in zip(pages, golden.probabilities, strict=True):
        got = graphs.scorer(scorer_inputs([page]))["probabilities"][0]
        if got.shape != expected.shape or not np.isfinite(got).all():
            return float("inf")
        largest = max(largest, score_difference(got, expected, scales))
    return largest


def score_scales(golden: Golden) -> Floats:
    """Return what differences of each objective's scores are told in, shape (objectives,).

    1, or the largest score of the pages where that is more: of an amount in thousands, a float32
    holds no more than four digits behind the point. Probabilities are compared as they are.
    """
    scales: Floats = np.ones(1, np.float32)
    for scores in golden.probabilities:
        if scores.size:
            scales = np.fmax(scales, np.abs(scores).max(axis=0))
    return scales


def score_difference(got: Floats, expected: Floats, scales: Floats) -> float:
    """Return the largest difference of two arrays of scores, shape (candidates, objectives).

    Args:
        got: Scores.
        expected: What they should be.
        scales: As `score_scales` has them.
    """
    return float((np.abs(got - expected) / scales).max())


def golden_to_json(golden: Golden) -> dict[str, Any]:
    """Return the golden pages as plain JSON values; NaN becomes null."""
    table = golden.table
    return {
        "products": {
            "texts": list(golden.texts),
            "identities": golden.identities.tolist(),
            **{name: _to_list(getattr(table, name)) for name in _TABLE_TYPES},
            "as_of_day": table.as_of_day,
            "vectors": {name: _sparse_rows(rows) for name, rows in golden.vectors.items()},
        },
        "pages": [
            {
                "query": page.query,
                "surface": page.surface,
                "time": page.time,
                **{name: _to_list(getattr(page, name)) for name in _PAGE_TYPES},
                "history": {name: _to_list(getattr(page.history, name)) for name in _HISTORY_TYPES},
                "probabilities": _to_list(probabilities),
            }
            for page, probabilities in zip(golden.pages, golden.probabilities, strict=True)
        ],
    }


def golden_from_json(value: Mapping[str, Any], schema: Schema) -> Golden:
    """Read golden pages written by `golden_to_json`.

    Raises:
        BundleError: When a key is missing or a column has another shape than the schema says.
    """
    try:
        products = value["products"]
        types = _TABLE_TYPES | {
            "levels": (np.int32, len(schema.levels)),
            "attributes": (np.int32, len(schema.attributes)),
            "stats": (np.float32, len(schema.product_columns)),
        }
        table = ProductTable(**_read_columns(products, types), as_of_day=int(products["as_of_day"]))
        pages = tuple(
            Page(
                query=page["query"],
                surface=int(page["surface"]),
                time=int(page["time"]),
                **_read_columns(page, _PAGE_TYPES | {"signals": (np.float32, len(schema.signals))}),
                history=History(**_read_columns(page["history"], _HISTORY_TYPES)),
            )
            for page in value["pages"]
        )
        probabilities = tuple(
            _read_array(page["probabilities"], np.float32, len(schema.objectives))
            for page in value["pages"]
        )
        return Golden(
            table=table,
            texts=tuple(products["texts"]),
            identities=_read_array(products["identities"], np.int32, None),
            pages=pages,
            probabilities=probabilities,
            vectors={
                spec.name: _read_sparse_rows(products["vectors"][spec.name], table, spec.width)
                for spec in schema.vectors
            },
        )
    except (IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise BundleError(f"golden.json: got {error!r}, want pages of this schema") from error


# Name -> dtype and width; a width of None is a flat column, 0 a width that the data says.
_Column = tuple[type[np.generic], int | None]
_TABLE_TYPES: dict[str, _Column] = {
    "categories": (np.int32, None),
    "levels": (np.int32, 0),
    "attributes": (np.int32, 0),
    "stats": (np.float32, 0),
    "factors": (np.float32, 0),
    "neighbours": (np.int32, 0),
    "neighbour_weights": (np.float32, 0),
    "gram": (np.float64, 0),
}
_PAGE_TYPES: dict[str, _Column] = {
    "rows": (np.int32, None),
    "retrieval_scores": (np.float32, None),
    "signals": (np.float32, 0),
}
_HISTORY_TYPES: dict[str, _Column] = {
    "rows": (np.int32, None),
    "times": (np.int64, None),
    "kinds": (np.int8, None),
    "same_place": (np.bool_, None),
    "discounted": (np.bool_, None),
}


def _read_columns(value: Mapping[str, Any], types: Mapping[str, _Column]) -> dict[str, Any]:
    return {name: _read_array(value[name], *column) for name, column in types.items()}


def _read_array(
    value: Sequence[Any], dtype: type[np.generic], width: int | None
) -> npt.NDArray[Any]:
    if issubclass(dtype, np.floating):
        # null becomes NaN
        array = np.array(value, np.float64).astype(dtype)
    else:
        array = np.array(value, dtype)
    if width is not None and array.ndim != 2:  # noqa: PLR2004 - rows and columns
        array = array.reshape(len(value), width)
    if width and array.shape[1] != width:
        raise ValueError(f"{array.shape[1]} columns where {width} are wanted")
    return array


def _sparse_rows(rows: Floats) -> dict[str, Any]:
    """Return the rows that are not of zeros alone, which most are, and where they stand."""
    held = np.flatnonzero((rows != 0).any(axis=1))
    return {"rows": held.tolist(), "values": [_short(row) for row in rows[held]]}


def _read_sparse_rows(value: Mapping[str, Any], table: ProductTable, width: int) -> Floats:
    rows = np.zeros((table.unknown_row + 1, width), np.float32)
    held = np.array(value["rows"], np.int64)
    if held.size:
        rows[held] = _read_array(value["values"], np.float32, width)
    return rows


def _short(row: Floats) -> list[float]:
    # as float32 prints itself: half the digits, and the same number when it is read
    return [float(str(value)) for value in row]


def _to_list(array: np.ndarray) -> list[Any]:
    if array.dtype.kind != "f":
        return list(array.tolist())
    values = array.astype(object)
    values[~np.isfinite(array)] = None
    return list(values.tolist())

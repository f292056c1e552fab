"""Judged searches as pages: the formats `pairs` and `judgments+products`.

A page is a query with every product that was judged for it, best BM25 first; its grades are the
judgments, the lowest one 0. Queries are dealt to folds, so that every query is tested once by
rankings that saw no judgment of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.formats.columns import Table
from trainer.formats.errors import DataError
from trainer.formats.labelled_pages import TEST, TRAIN, VALIDATION, LabelledPages, codes
from trainer.formats.lexical import LEXICAL_FEATURES, Fields, lexical_features
from trainer.formats.memory import check_memory
from trainer.formats.texts import plain_text

FOLDS = 3
MOST_GRADES = 8
ONE_CATEGORY = "(all)"


def pages_of_pairs(tables: list[Table], seed: int) -> LabelledPages:
    """Return the pages of judged (query, product) rows, each row a product of its own.

    Raises:
        DataError: When there are too few queries, or grades that are none.
    """
    table = _one(tables)
    return _query_pages(
        "pairs",
        queries=table.text("query"),
        rows=np.arange(table.frame.height, dtype=np.int32),
        grades=grades_of(table, "grade"),
        products=table,
        seed=seed,
    )


def pages_of_judgments(judgments: list[Table], products: list[Table], seed: int) -> LabelledPages:
    """Return the pages of judgments that name products of a catalogue.

    A judgment of a product that the catalogue does not hold is left out and counted.

    Raises:
        DataError: As `pages_of_pairs`, or when no judged product is in the catalogue.
    """
    judged, catalogue = _one(judgments), _one(products)
    row_of = {name: row for row, name in enumerate(catalogue.text("id"))}
    rows = np.array([row_of.get(name, -1) for name in judged.text("product")], np.int32)
    known = rows >= 0
    if not known.any():
        raise DataError(
            f"{judged.path.name}: got no product of {catalogue.path.name}, want their ids to agree"
        )
    queries = [q for q, kept in zip(judged.text("query"), known.tolist(), strict=True) if kept]
    grades = grades_of(judged, "grade")[known]
    used, inverse = np.unique(rows[known], return_inverse=True)
    pages = _query_pages(
        "judgments+products",
        queries=queries,
        rows=inverse.astype(np.int32),
        grades=grades,
        products=Table(catalogue.path, catalogue.frame[used.tolist()]),
        seed=seed,
    )
    pages.facts["judgments of unknown products"] = int((~known).sum())
    return pages


def grades_of(table: Table, meaning: str) -> npt.NDArray[np.uint8]:
    """Return grades from 0: the lowest value of the column is 0, each next one more.

    Names of the ESCI judgments (E, S, C, I) are known; a column of up to `MOST_GRADES` numbers is
    taken in their order; a column that has one value only is all 1.

    Raises:
        DataError: When the values are no grades.
    """
    column = table.read(meaning)
    if column.dtype == pl.String:
        column = column.replace(dict(zip(("E", "S", "C", "I"), "3210", strict=True)))
    numbers = column.cast(pl.Float64, strict=False)
    if numbers.null_count() or not numbers.is_finite().all():
        raise DataError(
            f"{table.path.name}: got grades such as {column.unique().sort()[:3].to_list()} with "
            f"{numbers.null_count()} that are no numbers, want a number on every row"
        )
    values = np.unique(numbers.to_numpy())
    if values.size > MOST_GRADES:
        raise DataError(
            f"{table.path.name}: got {values.size} different grades, want 1 to {MOST_GRADES}"
        )
    if values.size == 1:
        return np.ones(numbers.len(), np.uint8)
    return np.searchsorted(values, numbers.to_numpy()).astype(np.uint8)


def query_folds(clusters: npt.NDArray[np.int32], seed: int) -> tuple[npt.NDArray[np.int8], ...]:
    """Deal queries to folds; of a fold's other queries, every sixth is for validation.

    Args:
        clusters: Query of each page, shape (pages,).
        seed: Of the deal.

    Raises:
        DataError: With fewer queries than two for each part of a fold.
    """
    names, index = np.unique(clusters, return_inverse=True)
    if names.size < 2 * FOLDS:
        raise DataError(f"queries: got {names.size}, want at least {2 * FOLDS} to make folds of")
    place = np.random.default_rng(seed).permutation(names.size)
    folds = []
    for fold in range(FOLDS):
        split = np.full(names.size, TRAIN, np.int8)
        split[place % FOLDS == fold] = TEST
        rest = np.flatnonzero(split == TRAIN)
        rest = rest[np.argsort(place[rest])]
        split[rest[:: min(6, max(rest.size // 2, 1))]] = VALIDATION
        folds.append(split[index])
    return tuple(folds)


def _query_pages(
    name: str,
    *,
    queries: list[str],
    rows: npt.NDArray[np.int32],
    grades: npt.NDArray[np.uint8],
    products: Table,
    seed: int,
) -> LabelledPages:
    fields, shortened = _fields(products)
    pages = _group(queries, rows, grades, fields.everything)
    offsets, page_queries = pages.offsets, np.arange(len(pages.queries), dtype=np.int32)
    rows, grades = pages.rows, pages.grades
    check_memory(
        rows.size,
        len(LEXICAL_FEATURES),
        len(fields.titles),
        f"fewer rows of {products.path.name}",
    )
    categories = products.text("category")
    if not any(categories):
        categories = [ONE_CATEGORY] * len(categories)
    of_category, category_names = codes(categories)
    of_brand, brands = codes(products.text("brand"))
    features = lexical_features(pages.queries, fields, offsets, rows, page_queries)
    best = features[:, LEXICAL_FEATURES.index("bm25_all")]
    best_first = np.lexsort((-best, np.repeat(page_queries, np.diff(offsets))))
    rows, grades, features = rows[best_first], grades[best_first], features[best_first]
    others, other_names = _other_features(products, rows, of_brand, offsets)
    return LabelledPages(
        format=name,
        protocol=f"{FOLDS} folds of queries; candidates of a page are the query's judged products",
        surface="search",
        product_texts=list(fields.everything),
        product_categories=of_category,
        product_brands=of_brand,
        categories=category_names,
        brands=brands,
        queries=pages.queries,
        offsets=offsets,
        rows=rows,
        grades=grades,
        dense=np.concatenate([features, others], axis=1).astype(np.float32),
        feature_names=(*LEXICAL_FEATURES, *other_names),
        clusters=page_queries,
        page_queries=page_queries,
        positives_total=np.full(page_queries.size, -1, np.int32),
        history=np.full((page_queries.size, 1), -1, np.int32),
        folds=query_folds(page_queries, seed),
        rankings={
            "BM25": "bm25_all",
            "kNN of word vectors": "cosine_all",
            **({"popularity": "judged_elsewhere"} if others[:, 1].any() else {}),
        },
        facts={
            "queries": int(page_queries.size),
            "judgments": int(rows.size),
            **pages.left_out,
            **({"texts shortened": shortened} if shortened else {}),
        },
    )


@dataclass(frozen=True, slots=True)
class _Grouped:
    """Judgments page by page, and how many were left out of them for what reason."""

    queries: list[str]
    offsets: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int32]
    grades: npt.NDArray[np.uint8]
    left_out: dict[str, float | int | str]


def _group(
    queries: list[str],
    rows: npt.NDArray[np.int32],
    grades: npt.NDArray[np.uint8],
    texts: Sequence[str],
) -> _Grouped:
    """Return one page a query; a product judged twice keeps its first judgment.

    Products are the same when their texts are. A page of one product is no choice and left out.
    """
    frame = pl.DataFrame(
        {
            "query": queries,
            "product": [texts[row] or str(row) for row in rows.tolist()],
            "row": rows,
            "grade": grades,
        }
    )
    distinct = frame.unique(["query", "product"], keep="first", maintain_order=True)
    kept = distinct.filter(pl.len().over("query") > 1).sort("query", maintain_order=True)
    if kept.height == 0:
        raise DataError("queries: got none with two judged products or more, want some")
    names = kept["query"].unique(maintain_order=True)
    sizes = kept.group_by("query", maintain_order=True).len()["len"].to_numpy()
    left_out: dict[str, float | int | str] = {}
    if distinct.height < frame.height:
        left_out["judged twice, left out"] = frame.height - distinct.height
    if kept.height < distinct.height:
        left_out["pages of one candidate, left out"] = distinct.height - kept.height
    return _Grouped(
        names.to_list(),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        kept["row"].to_numpy().astype(np.int32),
        kept["grade"].to_numpy().astype(np.uint8),
        left_out,
    )


def _fields(products: Table) -> tuple[Fields, int]:
    """Return the texts of every field without markup, and how many were cut short."""
    titles, descriptions = products.text("title"), products.text("description")
    brands = products.text("brand")
    cut = [plain_text(text) for text in (*titles, *descriptions)]
    titles, descriptions = ([text for text, _ in cut[: len(titles)]],
                            [text for text, _ in cut[len(titles) :]])  # fmt: skip
    rest = zip(titles, brands, descriptions, products.text("category"), strict=True)
    everything = [" ".join(part for part in parts if part) for parts in rest]
    return Fields(titles, brands, descriptions, everything), sum(short for _, short in cut)


def _other_features(
    products: Table,
    rows: npt.NDArray[np.int32],
    brands: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    """Return what is known of a candidate without its query, shape (rows, features)."""
    pages = offsets.size - 1
    page = np.repeat(np.arange(pages), np.diff(offsets))
    # how many other queries' pages a product's brand is on, or the product where it has none
    key = np.where(brands[rows] > 0, brands[rows], -1 - rows)
    pairs = np.unique(np.stack([key, page], axis=1), axis=0)
    keys, counts = np.unique(pairs[:, 0], return_counts=True)
    elsewhere = counts[np.searchsorted(keys, key)] - 1
    columns = [np.zeros(rows.size), elsewhere.astype(np.float64)]
    names = ["own_count", "judged_elsewhere"]
    if products.column("price") is not None:
        price = products.read("price").cast(pl.Float64, strict=False).to_numpy()[rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(price > 0, np.log(price), np.nan)
        columns += [logs]
        names += ["log_price"]
    if products.column("score") is not None:
        columns.append(products.read("score").cast(pl.Float64, strict=False).to_numpy()[rows])
        names.append("retrieval_score")
    return np.stack(columns, axis=1).astype(np.float32), tuple(names)


def _one(tables: list[Table]) -> Table:
    """Return the only table, or the largest of several."""
    return max(tables, key=lambda table: table.frame.height)

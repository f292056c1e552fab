"""The first-stage order, written once for every engine, and what is known of each candidate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deploy.demo.retrieval.catalogue import Catalogue
from deploy.demo.retrieval.retriever import OWN_CONSIDERED, Retrieved
from rerank_server.contract.page import Floats, Rows

PLACE_WEIGHT = 1.5
SIGNALS = ("store_sales_28d", "store_sales_91d", "promotion_display", "promotion_mailer")


def first_stage_scores(catalogue: Catalogue, rows: Rows, place: str | None) -> Floats:
    """log1p(sales_56d) + 1.5 log1p(sales_91d of the place), shape (rows,).

    Without a place the second term is left out.
    """
    scores = np.log1p(catalogue.sales_56d[rows].astype(np.float64))
    if place is not None:
        place_sales = place_signals(catalogue, rows, place)["store_sales_91d"]
        scores += PLACE_WEIGHT * np.log1p(place_sales.astype(np.float64))
    return scores.astype(np.float32)


def place_signals(catalogue: Catalogue, rows: Rows, place: str | None) -> dict[str, Floats]:
    """One column per name of `SIGNALS`, shape (rows,); all NaN without a place."""
    if place is None:
        return {name: np.full(rows.shape, np.nan, np.float32) for name in SIGNALS}
    listed = catalogue.places.of(place)
    if listed.rows.size == 0:
        return {name: np.zeros(rows.shape, np.float32) for name in SIGNALS}
    found = np.searchsorted(listed.rows, rows).clip(max=listed.rows.size - 1)
    is_listed = listed.rows[found] == rows
    columns = (
        listed.sales_28d,
        listed.sales_91d,
        listed.promotion_display,
        listed.promotion_mailer,
    )
    return {
        name: np.where(is_listed, column[found], 0).astype(np.float32)
        for name, column in zip(SIGNALS, columns, strict=True)
    }


def take_candidates(
    catalogue: Catalogue,
    matched: Rows,
    *,
    place: str | None,
    limit: int,
    own: Sequence[str],
    own_limit: int,
    approximate: bool = False,
) -> Retrieved:
    """The best `limit` of the matched rows, then up to `own_limit` own ones of the rest.

    Args:
        catalogue: Where the rows come from.
        matched: Rows that match, in any order, each once.
        place: Whose sales count, if any.
        limit: How many to take by score.
        own: The shopper's past products, the most telling first.
        own_limit: How many of them to add beyond the best.
        approximate: Passed on.

    Returns:
        By score; equal scores keep catalogue order.
    """
    rows = np.sort(matched)
    ranked = rows[np.argsort(-first_stage_scores(catalogue, rows, place), kind="stable")]
    best, rest = ranked[:limit], ranked[limit:]
    own_rows = catalogue.rows_of_ids(own[:OWN_CONSIDERED])
    added = own_rows[np.isin(own_rows, rest)][:own_limit]
    kept = np.concatenate([best, rest[np.isin(rest, added)]])
    return Retrieved(
        ids=tuple(catalogue.products[row].id for row in kept),
        scores=first_stage_scores(catalogue, kept, place),
        signals=place_signals(catalogue, kept, place),
        approximate=approximate,
    )

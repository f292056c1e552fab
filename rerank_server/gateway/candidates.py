"""Hits as candidates of the reranker, and its order as places of hits."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rerank_server.gateway.errors import RankingError
from rerank_server.gateway.options import RerankOptions
from rerank_server.gateway.ranking import Ranking
from rerank_server.gateway.search_answer import Hit, Shown
from rerank_server.page import MAX_ID_BYTES

# Beyond it a 32-bit float is infinite.
_FLOAT_LIMIT = 3.4e38


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of one window.

    Attributes:
        ids: Product ids in retrieval order, each once.
        places: Places of the hits of each; more than one where indices hold a product twice.
        retrieval_scores: Of the first hit of each; NaN without one.
        signals: Numbers per candidate by the bundle's name; NaN without one.
        categories: Of each, an empty text where it is unknown; empty when not asked for.
    """

    ids: tuple[str, ...]
    places: tuple[tuple[int, ...], ...]
    retrieval_scores: tuple[float, ...]
    signals: dict[str, list[float]]
    categories: tuple[str, ...]


def find_candidates(hits: Sequence[Hit], options: RerankOptions) -> Candidates:
    """Return the hits of a window as candidates.

    A hit without a product id stands for a product that no store holds; it is scored by the rest.

    Raises:
        RankingError: When no hit has a product id.
    """
    places: dict[str, list[int]] = {}
    named = 0
    for place, hit in enumerate(hits):
        product_id = product_id_of(hit, options.id_field)
        named += product_id is not None
        places.setdefault(product_id or _stand_in(hit, place), []).append(place)
    if not named:
        raise RankingError(
            "no_product_ids",
            f"{options.id_field}: got no value in {len(hits)} hits, want a product id in each",
        )
    firsts = [hits[found[0]] for found in places.values()]
    return Candidates(
        ids=tuple(places),
        places=tuple(tuple(found) for found in places.values()),
        retrieval_scores=tuple(hit.score for hit in firsts),
        signals={
            name: [_value(hit.fields.get(source)) for hit in firsts]
            for name, source in options.signals.items()
        },
        categories=tuple(_text(hit.fields.get(options.category_field)) for hit in firsts)
        if options.category_field
        else (),
    )


def order_hits(candidates: Candidates, ranking: Ranking) -> list[Shown]:
    """Return the hits in the reranker's order; hits of one product stay together.

    Raises:
        RankingError: When it is degraded, has unknown, doubled, missing or too many ids, or
            scores that do not fit.
    """
    if ranking.degraded_reason:
        raise RankingError(ranking.degraded_reason, ranking.degraded_detail)
    found = dict(zip(candidates.ids, candidates.places, strict=True))
    got, wanted = len(ranking.ids), len(candidates.ids)
    if got + ranking.hidden != wanted:
        raise RankingError(
            "wrong_answer", f"reranked ids: got {got} and {ranking.hidden} hidden, want {wanted}"
        )
    if len(ranking.scores) != got or not all(map(math.isfinite, ranking.scores)):
        raise RankingError(
            "wrong_answer", f"scores: got {len(ranking.scores)}, want {got} finite numbers"
        )
    shown = []
    for product_id, score in zip(ranking.ids, ranking.scores, strict=True):
        if product_id not in found:
            raise RankingError(
                "wrong_answer", "reranked ids: got an unknown one or one twice, want those sent"
            )
        shown += [Shown(place, score) for place in found.pop(product_id)]
    return shown


def product_id_of(hit: Hit, id_field: str) -> str | None:
    """Return the product id of a hit; None where it has none that the wire can carry."""
    value = hit.id if id_field == "_id" else hit.fields.get(id_field)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value or len(value.encode()) > MAX_ID_BYTES:
        return None
    return value


def _stand_in(hit: Hit, place: int) -> str:
    """Return an id that no product has, the same for the same document."""
    document = f"{hit.index}\0{hit.id}\0{'' if hit.id else place}"
    return f"no-product-id:{hashlib.blake2b(document.encode(), digest_size=16).hexdigest()}"


def _value(value: Any) -> float:  # noqa: ANN401 - JSON
    if isinstance(value, bool | int | float) and abs(value) < _FLOAT_LIMIT:
        return float(value)
    return math.nan


def _text(value: Any) -> str:  # noqa: ANN401 - JSON
    return "" if value is None else str(value)

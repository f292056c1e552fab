"""What every retriever does: the candidates of a search or of a slot, in retrieval order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from deploy.demo.errors import RetrievalRequestError
from rerank_server.contract.errors import nearest
from rerank_server.contract.page import Floats

OWN_LIMIT = 30
PROMOTION_OWN_LIMIT = 50
# Past products looked at to find those that match.
OWN_CONSIDERED = 1000
CANDIDATES_LIMIT = 1000


class Surface(StrEnum):
    """Where a page without a query is shown."""

    HOME = "home"
    CATEGORY = "category"
    PROMOTION = "promotion"


@dataclass(frozen=True, slots=True, eq=False)
class Retrieved:
    """The candidates of one page.

    Attributes:
        ids: Product ids in retrieval order, each once.
        scores: First-stage score of each, shape (candidates,), not increasing:
            log1p(sales_56d) + 1.5 log1p(sales_91d of the place), the second term with a place.
        signals: Per name of `order.SIGNALS` one column, shape (candidates,); NaN is unknown.
        approximate: No product held every word, so words within one edit were taken too.
    """

    ids: tuple[str, ...]
    scores: Floats
    signals: Mapping[str, Floats]
    approximate: bool = False


class Retriever(Protocol):
    """First-stage retrieval. Both engines give equal answers for equal catalogues."""

    def search(self, query: str, *, place: str | None, limit: int, own: Sequence[str]) -> Retrieved:
        """Products whose text holds every word of `query`.

        Args:
            query: What the shopper typed; every word counts, nothing is syntax.
            place: Where the shopper is; None orders by sales anywhere.
            limit: At most this many by score, 1 to 1,000; up to 30 own products come on top.
            own: The shopper's past products, the most telling first; the first 1,000 count.
                Of those that match and are not among the best `limit`, the first 30 are added.

        Returns:
            By score; equal scores keep catalogue order. Empty when nothing matches.

        Raises:
            RetrievalRequestError: An empty query, an unknown place, a limit out of range.
        """
        ...

    def slot(
        self,
        surface: str,
        *,
        category: str | None,
        place: str | None,
        limit: int,
        own: Sequence[str],
        filter_ids: Sequence[str] | None = None,
    ) -> Retrieved:
        """Products for a page without a query.

        Args:
            surface: `home` takes all products, `category` those of `category`, `promotion`
                those that `place` promotes this week, of any category unless one is given.
            category: Required by `category`, narrows the others.
            place: Required by `promotion`.
            limit: As in `search`.
            own: As in `search`; a promotion adds up to 50.
            filter_ids: Only these products; None means all.

        Raises:
            RetrievalRequestError: An unknown surface, place or category, one that the surface
                requires and that is missing, a limit out of range.
        """
        ...


def parse_surface(surface: str, *, category: str | None, place: str | None) -> Surface:
    """The surface of that name, once what it requires is there.

    Raises:
        RetrievalRequestError: An unknown name, or a missing category or place.
    """
    known = [str(one) for one in Surface]
    if surface not in known:
        raise RetrievalRequestError(
            f"surface: got {surface!r}, want one of {', '.join(known)}{nearest(surface, known)}"
        )
    parsed = Surface(surface)
    if parsed is Surface.CATEGORY and category is None:
        raise RetrievalRequestError("category: got none, want one for surface 'category'")
    if parsed is Surface.PROMOTION and place is None:
        raise RetrievalRequestError("place: got none, want one for surface 'promotion'")
    return parsed


def own_limit(surface: Surface) -> int:
    """How many of the shopper's past products a slot adds."""
    return PROMOTION_OWN_LIMIT if surface is Surface.PROMOTION else OWN_LIMIT


def check_limit(limit: int) -> None:
    """Refuse a limit that is not 1 to 1,000."""
    if not 1 <= limit <= CANDIDATES_LIMIT:
        raise RetrievalRequestError(f"limit: got {limit}, want 1 to {CANDIDATES_LIMIT}")

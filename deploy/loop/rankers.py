"""What puts a simulated search in order: retrieval, a bundle in this process, or the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deploy.loop.interleaving import team_draft
from rerank_server.page import SearchPage
from rerank_server.reranker import Reranker


@dataclass(frozen=True, slots=True)
class Order:
    """A page in the order it is shown in.

    Attributes:
        ranks: Places in retrieval order, from 0, best first.
        scores: Of each of `ranks`; empty when nothing scored them.
        teams: Of interleaved pages, the ranking that each place was drawn from; empty of others.
    """

    ranks: np.ndarray
    scores: np.ndarray
    teams: tuple[int, ...] = ()


class PageOrder(Protocol):
    """One arm of the traffic."""

    @property
    def bundle_id(self) -> str:
        """The bundle that scores; empty for retrieval order."""
        ...

    def order(self, page: SearchPage) -> Order:
        """Return the whole page in its order."""
        ...


class RetrievalOrder:
    """Shows what retrieval found as it came."""

    bundle_id = ""

    def order(self, page: SearchPage) -> Order:
        """Return the page as it is."""
        return Order(np.arange(len(page.candidate_ids)), np.empty(0, np.float32))


class BundleOrder:
    """Reranks with a bundle, in this process, by the code that the server runs."""

    def __init__(self, reranker: Reranker) -> None:
        self._reranker = reranker

    @property
    def bundle_id(self) -> str:
        """The bundle's content hash."""
        return str(self._reranker.bundle.manifest.bundle_id)

    def order(self, page: SearchPage) -> Order:
        """Return the page in the bundle's order."""
        ranked = self._reranker.rerank(page)
        return Order(np.asarray(ranked.retrieval_ranks), np.asarray(ranked.scores))


class InterleavedOrder:
    """Shows pages that two rankings have drawn by teams; the first one's bundle gives the name."""

    def __init__(self, first: PageOrder, second: PageOrder, seed: int) -> None:
        self._rankings = (first, second)
        self._random = np.random.default_rng((seed, 3))

    @property
    def bundle_id(self) -> str:
        """The first ranking's bundle."""
        return self._rankings[0].bundle_id

    def order(self, page: SearchPage) -> Order:
        """Return the page as the two teams have drawn it."""
        first, second = (
            [page.candidate_ids[rank] for rank in ranking.order(page).ranks.tolist()]
            for ranking in self._rankings
        )
        drawn = team_draft(first, second, len(first), self._random)
        ranks = {product: rank for rank, product in enumerate(page.candidate_ids)}
        order = np.array([ranks[product] for product in drawn.ids], np.int64)
        return Order(order, np.empty(0, np.float32), drawn.teams)

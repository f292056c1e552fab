"""Searches with clicks whose truth is known: position-based, from a ranking that explores.

Each query has its products, with features that two rankings read differently. The logging ranking
draws its pages (Plackett-Luce), so the propensity of each product is known by drawing many pages;
the other ranking is certain, and better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from trainer.encoding.pageset import Doubles, Integers
from trainer.evaluation.off_policy import LoggedClicks
from trainer.evaluation.position_bias import Impressions

_PAGES_DRAWN = 4000


@dataclass(frozen=True)
class Searches:
    """A sample of logged searches.

    Attributes:
        query: Of each search, shape (searches,).
        place: Place of each product of its query, from 0, shape (searches, products).
        clicked: 0 or 1, shape (searches, products).
    """

    query: Integers
    place: Integers
    clicked: Doubles


class World:
    """Queries, products, a logging ranking and another one."""

    def __init__(
        self,
        *,
        queries: int = 40,
        products: int = 12,
        places: int = 10,
        temperature: float = 1.0,
        steepness: float = 1.0,
        seed: int = 1,
    ) -> None:
        random = np.random.default_rng(seed)
        self.places, self.products = places, products
        self._temperature = temperature
        self.features = random.normal(size=(queries, products, 3))
        hidden = 0.5 * random.normal(size=(queries, products))
        self.relevance: Doubles = expit(self.features @ [1.2, 0.8, 0.0] + hidden - 1.0)
        self.scores: Doubles = self.features @ [0.4, 1.0, 0.6]
        self.examination: Doubles = np.arange(1, places + 1, dtype=np.float64) ** -steepness
        drawn = self._draw(np.repeat(np.arange(queries), _PAGES_DRAWN), random)
        drawn = drawn.reshape(queries, _PAGES_DRAWN, products)
        # P(product stands at a place), shape (queries, products, places)
        self.chances = np.stack([(drawn == k).mean(axis=1) for k in range(places)], axis=-1)
        better = self.features @ [1.2, 0.8, 0.0]
        order = np.argsort(np.argsort(-better, axis=1), axis=1)
        self.value = self._at(self.examination, order)

    @property
    def truth(self) -> float:
        """Clicks per search that the other ranking would bring, queries being as frequent."""
        return float((self.value * self.relevance).sum(axis=1).mean())

    def sample(self, searches: int, random: np.random.Generator) -> Searches:
        """Return logged searches with their clicks."""
        query = random.integers(self.features.shape[0], size=searches)
        place = self._draw(query, random)
        chance = self._at(self.examination, place) * self.relevance[query]
        return Searches(query, place, (random.random(chance.shape) < chance).astype(np.float64))

    def logged(
        self, found: Searches, examination: Doubles, relevance: Doubles | None
    ) -> LoggedClicks:
        """Return the log as an estimator sees it, with its own idea of the examination.

        Args:
            found: The searches.
            examination: Of each place.
            relevance: A model's, shape (searches, products).
        """
        count, products = found.clicked.shape
        propensity = (self.chances @ examination)[found.query]
        # a page that was drawn once though 4,000 draws never showed it
        propensity = np.where(found.clicked > 0, np.maximum(propensity, 1e-4), propensity)
        return LoggedClicks(
            search=np.repeat(np.arange(count), products),
            clicked=found.clicked.ravel(),
            examined=self._at(examination, found.place).ravel(),
            propensity=propensity.ravel(),
            value=self.value[found.query].ravel(),
            relevance=None if relevance is None else relevance.ravel(),
        )

    def cross_fitted_relevance(self, found: Searches, examination: Doubles) -> Doubles:
        """Return a model's relevance for each search, learned from the other half of them.

        The rate of clicks by inverse propensity, drawn towards the mean rate.
        """
        propensity = np.maximum(self.chances @ examination, 1e-3)
        weighted = found.clicked / propensity[found.query]
        learned = np.empty_like(weighted)
        half = np.arange(found.query.size) % 2 == 0
        for part in (half, ~half):
            sums, counts = np.zeros_like(propensity), np.zeros(propensity.shape[0])
            np.add.at(sums, found.query[part], weighted[part])
            np.add.at(counts, found.query[part], 1.0)
            mean = float(weighted[part].mean())
            rates = (sums + 4.0 * mean) / (counts[:, None] + 4.0)
            learned[~part] = np.clip(rates, 0.0, 1.0)[found.query[~part]]
        return learned

    def impressions(self, found: Searches) -> Impressions:
        """Return what was shown, and whether it was clicked."""
        pair = found.query[:, None] * self.products + np.arange(self.products)
        shown = found.place < self.places
        return Impressions(pair[shown], found.place[shown], found.clicked[shown] > 0)

    def _draw(self, query: Integers, random: np.random.Generator) -> Integers:
        """Return the place of each product on a page drawn for each query."""
        noise = random.gumbel(size=(query.size, self.products))
        keys = self.scores[query] / self._temperature + noise
        return np.argsort(np.argsort(-keys, axis=1), axis=1)

    def _at(self, examination: Doubles, place: Integers) -> Doubles:
        inside = place < self.places
        return np.where(inside, examination[np.minimum(place, self.places - 1)], 0.0)

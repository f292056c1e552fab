"""Whether an explanation names what moves a score: deletion curves against random orders.

Groups are removed from a page one after another, those first that the explanation of a product
holds to have moved it most. A faithful explanation moves the score further with few groups than a
random order does (deletion of Petsiuk, Das and Saenko 2018, with the size of the change in place
of the fall, since groups move scores both ways).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from rerank_server.contract.ablation import Neutral
from rerank_server.contract.schema import Schema
from trainer.encoding.pageset import Doubles
from trainer.evaluation.bootstrap import Interval, resample_means, whole
from trainer.explanations.attribution import (
    Attribution,
    GroupGame,
    leave_one_out,
    shapley_values,
)
from trainer.explanations.pages import ExplanationError, LoggedPage, Score

SHAPLEY, LEAVE_ONE_OUT, RANDOM = "shapley", "leave one out", "random"
STEPS = 4
_PRODUCTS = 3  # of each page, the best first: those that a shopper asks about
_RANDOM_ORDERS = 6
_SMALLEST_SPREAD = 1e-12


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How far removing groups moves a score, by how the order of removal was chosen.

    Attributes:
        pages: Pages measured.
        products: Products explained.
        curves: Ranking of the groups -> mean change after 1, 2, ... groups, in standard deviations
            of the page's scores.
        against_random: Ranking -> mean over the steps, minus that of random orders.
        scored: Pages scored in all, altered ones included.
    """

    pages: int
    products: int
    curves: dict[str, tuple[Interval, ...]]
    against_random: dict[str, Interval]
    scored: int


def measure_fidelity(
    pages: Sequence[LoggedPage],
    schema: Schema,
    neutral: Neutral,
    score: Score,
    random: np.random.Generator,
    *,
    progress: bool = False,
) -> Fidelity:
    """Return the deletion curves of the best products of each page.

    Args:
        pages: At least one with two candidates or more whose scores differ.
        schema: Of the log.
        neutral: What stands for product and query.
        score: Scores pages.
        random: Draws orders.
        progress: Whether a bar is drawn.

    Raises:
        ExplanationError: When on no page there is anything to explain.
    """
    names = (SHAPLEY, LEAVE_ONE_OUT, RANDOM)
    values: list[Doubles] = []
    shoppers: list[int] = []
    products = scored = 0
    for page in tqdm(pages, desc="Removing groups", unit="page", disable=not progress):
        game = GroupGame(page.scored, schema, neutral, score)
        scores = game.worth([game.everyone])[0]
        spread = float(scores.std())
        if len(game.players) < 2 or spread < _SMALLEST_SPREAD:  # noqa: PLR2004  nothing to order
            continue
        best = np.argsort(-scores, kind="stable")[:_PRODUCTS]
        explained = [shapley_values(game, random), leave_one_out(game)]
        curves = [_curve(game, each, best, scores) for each in explained]
        curves.append(_random_curve(game, best, scores, random))
        values.append(np.array(curves) / spread)
        shoppers.append(page.shopper)
        products += best.size
        scored += game.scored
    if not values:
        raise ExplanationError(
            f"pages: got {len(pages)} on which no score differs or no group says anything, want one"
        )
    table = np.array(values)  # (pages, rankings, steps)
    clusters = np.array(shoppers)
    everything = whole(clusters.size)
    curves_of = {}
    for index, name in enumerate(names):
        means = resample_means(table[:, index].T, clusters, everything)
        curves_of[name] = tuple(means.interval(step, 0) for step in range(STEPS))
    areas = resample_means(table.mean(axis=2).T, clusters, everything)
    against = {
        name: areas.difference(index, names.index(RANDOM), 0)
        for index, name in enumerate(names)
        if name != RANDOM
    }
    return Fidelity(len(values), products, curves_of, against, scored)


def _curve(
    game: GroupGame, explained: Attribution, products: np.ndarray, scores: Doubles
) -> Doubles:
    """Return the mean change after each step, shape (steps,); each product has its own order."""
    orders = np.argsort(-np.abs(explained.values[:, products]), axis=0, kind="stable")
    changes = [
        _change(game, order.tolist(), scores)[:, product]
        for order, product in zip(orders.T, products.tolist(), strict=True)
    ]
    mean: Doubles = np.mean(changes, axis=0)
    return mean


def _random_curve(
    game: GroupGame, products: np.ndarray, scores: Doubles, random: np.random.Generator
) -> Doubles:
    changes = [
        _change(game, random.permutation(len(game.players)).tolist(), scores)[:, products]
        for _ in range(_RANDOM_ORDERS)
    ]
    mean: Doubles = np.mean(changes, axis=(0, 2))
    return mean


def _change(game: GroupGame, order: Sequence[int], scores: Doubles) -> Doubles:
    """Return how far the scores move as groups go in this order, shape (steps, candidates)."""
    coalitions, left = [], game.everyone
    for step in range(STEPS):
        if step < len(order):
            left &= ~(1 << order[step])
        coalitions.append(left)
    return np.abs(game.worth(coalitions) - scores)

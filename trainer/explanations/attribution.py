"""How much each group of a page moved each score: leaving one out, and Shapley values.

The game of a page: its players are the groups that the page says something of; a coalition is
worth, to a candidate, its score on the page without all other groups. Groups of which the page
says nothing would be null players, worth 0 to everyone, and are not in the game.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rerank_server.contract.ablation import Neutral, present_groups, without_groups
from rerank_server.contract.graph_inputs import ScorerPage
from rerank_server.contract.schema import Schema
from trainer.encoding.pageset import Doubles
from trainer.explanations.pages import ExplanationError, Score

# 2^8 pages are few enough to score all of them.
EXACT_PLAYERS = 8
PERMUTATION_PAIRS = 8


class GroupGame:
    """The scores of one page with any of its groups left out, each computed once."""

    def __init__(self, page: ScorerPage, schema: Schema, neutral: Neutral, score: Score) -> None:
        self.players = present_groups(page, schema, neutral)
        self.size = page.size
        self._page, self._schema, self._neutral, self._score = page, schema, neutral, score
        self._known: dict[int, Doubles] = {}

    @property
    def everyone(self) -> int:
        """The coalition of all players; player i is in a coalition when its bit i is set."""
        return (1 << len(self.players)) - 1

    def worth(self, coalitions: Iterable[int]) -> Doubles:
        """Return the scores with the given coalitions alone, shape (coalitions, candidates)."""
        wanted = list(coalitions)
        fresh = [each for each in dict.fromkeys(wanted) if each not in self._known]
        pages = [
            without_groups(self._page, self._absent(each), self._schema, self._neutral)
            for each in fresh
        ]
        self._known.update(zip(fresh, self._score(pages), strict=True))
        return np.array([self._known[each] for each in wanted]).reshape(len(wanted), self.size)

    @property
    def scored(self) -> int:
        """How many coalitions were scored so far."""
        return len(self._known)

    def _absent(self, coalition: int) -> list[str]:
        return [name for at, name in enumerate(self.players) if not coalition >> at & 1]


@dataclass(frozen=True, slots=True)
class Attribution:
    """What each group is worth to each candidate.

    Attributes:
        groups: The players.
        values: In units of the score, shape (groups, candidates).
        errors: Standard error of `values` where they were sampled, 0 where they are exact.
        exact: Whether they are exact.
    """

    groups: tuple[str, ...]
    values: Doubles
    errors: Doubles
    exact: bool


def leave_one_out(game: GroupGame) -> Attribution:
    """Return each score minus the score without the group: what the server answers."""
    everyone = game.everyone
    worth = game.worth([everyone, *(everyone & ~(1 << at) for at in range(len(game.players)))])
    values = worth[0] - worth[1:]
    return Attribution(game.players, values, np.zeros_like(values), exact=True)


def shapley_values(
    game: GroupGame,
    random: np.random.Generator,
    *,
    exact_players: int = EXACT_PLAYERS,
    pairs: int = PERMUTATION_PAIRS,
) -> Attribution:
    """Return the Shapley value of each group (Shapley 1953).

    phi_i = sum over coalitions S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S)), exactly
    for at most `exact_players` players. For more, the mean over random orders, each taken
    forwards and backwards (Castro, Gomez and Tejada 2009; antithetic pairs of Mitchell et al.
    2022, section 4.1). Either way they add up to the score minus the score without any group.

    Args:
        game: Of one page.
        random: Draws the orders.
        exact_players: See above.
        pairs: Pairs of orders, >= 2.

    Raises:
        ExplanationError: With fewer than two pairs, which have no standard error.
    """
    if pairs < 2:  # noqa: PLR2004  a spread needs two
        raise ExplanationError(f"pairs: got {pairs}, want at least 2")
    if len(game.players) <= exact_players:
        return _exact(game)
    drawn = [random.permutation(len(game.players)).tolist() for _ in range(pairs)]
    orders = [order for each in drawn for order in (each, each[::-1])]
    chains = [_chain(order) for order in orders]
    length = len(game.players) + 1
    worth = game.worth(coalition for chain in chains for coalition in chain)
    steps = np.diff(worth.reshape(len(orders), length, game.size), axis=1)
    gains = np.empty_like(steps)  # (orders, players, candidates)
    for index, order in enumerate(orders):
        gains[index, order] = steps[index]
    of_pairs = gains.reshape(pairs, 2, *gains.shape[1:]).mean(axis=1)
    errors = of_pairs.std(axis=0, ddof=1) / math.sqrt(pairs)
    return Attribution(game.players, of_pairs.mean(axis=0), errors, exact=False)


def _exact(game: GroupGame) -> Attribution:
    count = len(game.players)
    worth = game.worth(range(1 << count))
    sizes = np.array([each.bit_count() for each in range(1 << count)])
    values = np.zeros((count, game.size))
    for player in range(count):
        without = np.flatnonzero(np.arange(1 << count) >> player & 1 == 0)
        weights = [
            math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            for size in sizes[without].tolist()
        ]
        values[player] = np.array(weights) @ (worth[without | 1 << player] - worth[without])
    return Attribution(game.players, values, np.zeros_like(values), exact=True)


def _chain(order: Sequence[int]) -> list[int]:
    """Return the coalitions that grow from nobody to everyone, one player at a time."""
    coalitions = [0]
    for player in order:
        coalitions.append(coalitions[-1] | 1 << player)
    return coalitions

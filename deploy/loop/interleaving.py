"""Two rankings on one page: team-draft interleaving (Radlinski, Kurup and Joachims 2008)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

FIRST, SECOND = 0, 1


@dataclass(frozen=True, slots=True)
class Interleaved:
    """A page of two rankings.

    Attributes:
        ids: The page.
        teams: Which ranking each place was drawn from, `FIRST` or `SECOND`.
    """

    ids: tuple[str, ...]
    teams: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preference:
    """What clicks on interleaved pages say.

    Attributes:
        first: Pages on which the first ranking's products got more clicks.
        second: Alike of the second.
        ties: Pages with as many of both, or none.
        p_value: Sign test, two-sided, ties left out.
    """

    first: int
    second: int
    ties: int
    p_value: float


def team_draft(
    first: Sequence[str], second: Sequence[str], places: int, random: np.random.Generator
) -> Interleaved:
    """Draw a page: in each turn a coin says who picks first, each picks its best that is left."""
    ids: list[str] = []
    teams: list[int] = []
    taken: set[str] = set()
    while len(ids) < places:
        before = len(ids)
        for team in random.permutation([FIRST, SECOND]).tolist():
            ranking = second if team else first
            pick = next((each for each in ranking if each not in taken), None)
            if pick is not None and len(ids) < places:
                taken.add(pick)
                ids.append(pick)
                teams.append(team)
        if len(ids) == before:
            break
    return Interleaved(tuple(ids), tuple(teams))


def credit(page: Interleaved, clicked: Iterable[str]) -> int:
    """Return clicks on the first ranking's products minus those on the second's."""
    team_of = dict(zip(page.ids, page.teams, strict=True))
    teams = [team_of[each] for each in set(clicked) if each in team_of]
    return teams.count(FIRST) - teams.count(SECOND)


def preference(margins: Sequence[int]) -> Preference:
    """Count pages by who won them, and test the counts."""
    first = sum(each > 0 for each in margins)
    second = sum(each < 0 for each in margins)
    decided = first + second
    tail = sum(math.comb(decided, k) for k in range(min(first, second) + 1)) / 2**decided
    return Preference(first, second, len(margins) - decided, min(1.0, 2 * tail))

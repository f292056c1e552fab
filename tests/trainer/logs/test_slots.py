from __future__ import annotations

import numpy as np

from tests.trainer.logs.test_searches import DAY, interactions
from trainer.logs.slots import fit_together


def neighbours(table, row: int) -> dict[int, float]:
    where = slice(table.offsets[row], table.offsets[row + 1])
    return dict(zip(table.neighbours[where].tolist(), table.weights[where].tolist(), strict=True))


def test_neighbours_weigh_their_pairs_by_how_often_both_are_taken():
    log = interactions([(0, 1, 0), (0, 2, 1), (0, 3, 2), (1, 1, 0), (1, 2, 1)])
    table = fit_together(log, 4, day=1)
    # products 0 and 1 were together twice, taken twice each; 2 once, taken once
    assert neighbours(table, 0) == {1: 1.0, 2: 1 / np.sqrt(2)}
    assert neighbours(table, 2) == {0: 1 / np.sqrt(2), 1: 1 / np.sqrt(2)}
    assert neighbours(table, 3) == {}


def test_interactions_too_far_apart_or_of_two_shoppers_are_not_together():
    lines = [(0, time, row) for time, row in enumerate([0, 1, 1, 1, 1, 1, 2])]
    table = fit_together(interactions([*lines, (1, 0, 3)]), 4, day=1)
    assert 2 not in neighbours(table, 0)
    assert neighbours(table, 3) == {}


def test_only_interactions_before_the_day_count():
    log = interactions([(0, DAY, 0), (0, 2 * DAY, 1), (0, 2 * DAY + 1, 2)])
    assert neighbours(fit_together(log, 3, day=2), 0) == {}
    assert neighbours(fit_together(log, 3, day=3), 0).keys() == {1, 2}

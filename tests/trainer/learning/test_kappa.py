"""The quadratic weighted kappa by hand, and the cut points that it is best with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.trainer.formats.folders import write_pairs
from trainer.formats.folder import Reading, read_pages
from trainer.learning.kappa import fit_cuts, graded, kappa_of_rows, quadratic_kappa
from trainer.learning.parts import LearningBudget


def test_kappa_of_full_none_and_opposite_agreement() -> None:
    assert quadratic_kappa(np.diag([3, 4, 5])) == 1.0
    # independent margins: what is observed is what is expected
    assert quadratic_kappa(np.outer([2, 2], [1, 3])) == pytest.approx(0.0)
    assert quadratic_kappa(np.array([[0, 5], [5, 0]])) == pytest.approx(-1.0)


def test_kappa_of_a_near_miss_by_hand() -> None:
    # one row of grade 0 was given 1: w O = 1; margins (2, 1, 1) and (1, 2, 1) give
    # w E = (2*2*1 + 2*1*4 + 1*1*1 + 1*1*1 + 1*1*4 + 1*2*1) / 4 = 20 / 4
    counts = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    assert quadratic_kappa(counts) == pytest.approx(1 - 1 / 5)


def test_cuts_find_the_steps_between_grades() -> None:
    grades = np.repeat([0, 1, 2], 40)
    scores = grades * 10.0 + np.tile(np.linspace(0, 1, 40), 3)
    cuts = fit_cuts(grades, scores, 3)
    assert (graded(scores, cuts) == grades).all()


def test_rows_of_every_query_are_tested_once_in_a_run(tmp_path: Path) -> None:
    write_pairs(tmp_path, queries=40)
    pages = read_pages(tmp_path, Reading())
    budget = LearningBudget(epochs=1, steps=4)
    kappa = kappa_of_rows(pages, 1, budget, tmp_path / "work", progress=False)
    assert set(kappa.rankings) == {"CrossRank", "network, shared", "LightGBM"}
    assert len(kappa.folds["LightGBM"]) == 3
    # a title's grade is the number of query words that it holds, which trees see at once
    assert kappa.rankings["LightGBM"] > 0.7
    assert kappa.differences["LightGBM"].low <= kappa.differences["LightGBM"].high

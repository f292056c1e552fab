"""Neighbours and lexical scores, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from trainer.formats.lexical import Bm25, words_of
from trainer.formats.neighbours import fit_neighbours, look_up


def test_neighbours_of_two_shoppers() -> None:
    # shopper 0 takes 0, 1, 2; shopper 1 takes 0, 2
    fit = fit_neighbours(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 2]), 4)
    assert fit.counts.tolist() == [2, 1, 2, 0]
    assert fit.together[0, 2] == pytest.approx(2 / math.sqrt(2 * 2))
    assert fit.together[0, 1] == pytest.approx(1 / math.sqrt(2))
    assert fit.together[0, 0] == 0
    # 2 follows 0 by two steps and by one, and two shoppers have both: (1/2 + 1 + 2/2) / 2
    assert fit.after[0, 2] == pytest.approx((1.5 + 1) / 2)
    # the other way round, what follows counts half
    assert fit.after[2, 0] == pytest.approx((0.75 + 1) / 2)
    # from 0 over shopper 0, who has three products, and shopper 1, who has two
    assert fit.walk[0, 2] == pytest.approx((1 / 3 + 1 / 2) / (2 * 2**0.4))
    assert fit.walk[0, 1] == pytest.approx((1 / 3) / (2 * 1**0.4))
    assert fit.walk[1, 1] == 0


def test_no_event_has_no_neighbour() -> None:
    none = np.zeros(0, np.int64)
    fit = fit_neighbours(none, none, 3)
    assert fit.together.nnz == 0
    past = csr_matrix((1, 3))
    assert look_up(fit.together, past, np.zeros(2, np.int64), np.array([0, 1])).tolist() == [0, 0]


def test_scores_are_looked_up_page_by_page() -> None:
    matrix = csr_matrix(np.array([[0.0, 0.5], [0.25, 0.0]]))
    past = csr_matrix(np.array([[1.0, 0.0], [0.0, 2.0]]))
    page, rows = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert look_up(matrix, past, page, rows).tolist() == [0.0, 0.5, 0.5, 0.0]


def test_bm25_of_one_word_in_one_of_two_texts() -> None:
    bm25 = Bm25(["red lamps", "blue chairs"])
    idf = math.log1p((2 - 1 + 0.5) / (1 + 0.5))
    assert bm25.score(["lamp"], 0) == pytest.approx(idf / (1 + 1.2))
    assert bm25.score(["lamp"], 1) == 0


def test_words_lose_a_plural_s_when_long() -> None:
    assert words_of("LED Lights, gas") == ["led", "light", "gas"]

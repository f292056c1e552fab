from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation.objective_figures import (
    Served,
    format_figures,
    is_ranked,
    objective_figures,
    page_values,
)
from trainer.logs.labels import Label
from trainer.objectives import Head, Objective, served_candidates, served_labels

CLICK = Head(Objective("click"), Label("click"))
DWELL = Head(Objective("dwell", given="click"), Label("dwell", type="dwell"), parent=0)
UNITS = Head(Objective("units"), Label("units", type="count"))


def served(heads, labels, outputs, sizes) -> Served:
    labels, outputs = np.array(labels, np.float64), np.array(outputs, np.float64)
    return Served(
        heads=heads,
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        shoppers=np.arange(len(sizes)),
        outputs=outputs,
        labels=labels,
        seen=served_labels(heads, labels),
        counted=served_candidates(heads, labels, None),
    )


def test_auc_counts_pairs_in_order_ties_half_and_skips_pages_of_one_kind():
    labels = [[1], [0], [0], [1], [1], [0]]
    outputs = [[0.5], [0.2], [0.5], [0.1], [0.3], [0.9]]
    pages = served((CLICK,), labels, outputs, [3, 2, 1])
    got = page_values("auc", pages, 0, pages.outputs[:, 0])
    np.testing.assert_allclose(got, [0.75, np.nan, np.nan])


def test_ndcg_of_an_amount_gains_the_amount_itself():
    pages = served((UNITS,), [[3], [0], [1]], [[0.1], [0.2], [0.3]], [3])
    got = page_values("ndcg@10", pages, 0, pages.outputs[:, 0])
    best = 3 + 1 / np.log2(3)
    assert got[0] == pytest.approx((1 + 0 + 3 / np.log2(4)) / best)


def test_what_does_not_count_is_left_out_of_its_page():
    labels = [[1, 20], [0, 0], [1, 5], [0, 0]]
    outputs = [[0, 10], [0, 999], [0, 5], [0, 7]]
    pages = served((CLICK, DWELL), labels, outputs, [3, 1])
    got = page_values("rmse", pages, 1, pages.outputs[:, 1])
    np.testing.assert_allclose(got, [(10**2 + 0) / 2, np.nan])  # the square; no click on the second
    rows = objective_figures(pages, draws=20)
    assert (rows[1].metric, rows[1].pages) == ("rmse_log1p", 1)
    wanted = np.sqrt((np.log(11) - np.log(21)) ** 2 / 2)
    assert rows[1].value.mean == pytest.approx(wanted)
    assert (rows[1].served, rows[1].seen) == (7.5, 12.5)


def test_an_objective_that_never_counts_is_told_as_such():
    pages = served((CLICK, DWELL), [[0, 0], [0, 0]], [[0.1, 3], [0.2, 4]], [2])
    rows = objective_figures(pages, draws=5)
    assert [row.pages for row in rows] == [0, 0]
    assert np.isnan(rows[1].value.mean)
    assert np.isnan(rows[1].served)
    assert "nan" in format_figures({"Search": rows})


def test_reciprocal_rank_and_hits_are_known_and_errors_are_not_metrics_of_order():
    pages = served((CLICK,), [[0], [1]], [[0.9], [0.1]], [2])
    assert page_values("mrr", pages, 0, pages.outputs[:, 0]).tolist() == [0.5]
    assert page_values("hit@1", pages, 0, pages.outputs[:, 0]).tolist() == [0]
    assert [is_ranked(name) for name in ("ndcg@5", "auc", "rmse", "rmse_log1p")] == [
        True, True, False, False
    ]  # fmt: skip

from __future__ import annotations

import re

import numpy as np
import pytest

from trainer.evaluation.comparison import surface_logits
from trainer.evaluation.evaluation import EvaluationError, plain_json
from trainer.evaluation.metrics import ndcg_at_k
from trainer.evaluation.objective_figures import served_on
from trainer.evaluation.trade_off import format_trade_offs, pareto_front, trade_offs
from trainer.reports.trade_off_plots import plot_trade_off


def test_the_front_holds_what_no_other_point_beats():
    nan = float("nan")
    values = np.array([[1, 5], [2, 4], [2, 3], [3, 1], [3, 1], [0, 0], [nan, 9]])
    assert pareto_front(values).tolist() == [True, True, False, True, True, False, False]


@pytest.fixture(scope="module")
def curves(tiny_run):
    return trade_offs(tiny_run, ("purchase", "discount"), split="validation", steps=4, draws=50)


def test_the_ends_of_a_curve_are_each_objective_alone(tiny_run, curves):
    curve = next(curve for curve in curves if curve.task == "Promotion")
    assert [point.share for point in curve.points] == [0, 0.25, 0.5, 0.75, 1]
    assert curve.points[0].weights["discount"] == 0
    assert curve.points[-1].weights["purchase"] == 0
    logits = surface_logits(tiny_run, "promotion", "validation")
    served = served_on(tiny_run, "promotion", "validation", logits)
    for column, point in ((0, curve.points[0]), (2, curve.points[-1])):
        values = [
            ndcg_at_k(served.labels[:, index] * 1.0, served.outputs[:, column], served.offsets, 10)
            for index in (0, 2)
        ]
        both = ~np.isnan(values).any(axis=0)
        assert curve.pages == both.sum()
        assert point.first.mean == pytest.approx(values[0][both].mean())
        assert point.second.mean == pytest.approx(values[1][both].mean())
        assert point.first.low <= point.first.mean <= point.first.high
    assert any(point.best for point in curve.points)


def test_a_curve_is_told_and_drawn(curves):
    text = format_trade_offs(curves)
    assert "purchase against discount on Promotion" in text
    assert len(re.findall(r"^ [01]\.\d\d ", text, re.MULTILINE)) == 5 * len(curves)
    from dataclasses import asdict  # noqa: PLC0415

    drawn = plot_trade_off(plain_json(asdict(curves[0])))
    assert drawn.startswith("<svg")
    assert "purchase: ndcg@10" in drawn
    assert "discount alone" in drawn


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("purchase", "discont"), "got 'discont', want two of .*nearest: discount"),
        (("purchase", "purchase"), "want two objectives"),
    ],
)
def test_a_pair_that_is_none_is_refused(tiny_run, pair, message):
    with pytest.raises(EvaluationError, match=message):
        trade_offs(tiny_run, pair)

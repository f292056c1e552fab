from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.synthetic_pages import page_set, synthetic_pages
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.page_figures import (
    PageFiguresError,
    mean_figures,
    paired_figures,
    read_figures,
    task_figures,
    write_figures,
)

NAMES = ("neutral", "dairy", "pet", "baby")


def figures_of(pages, scores):
    return task_figures(pages, scores, np.arange(pages.pages) + 7, NAMES)


def test_the_figure_of_a_page_is_its_ndcg():
    pages = page_set([[0, 1], [1, 0], [0, 0]], categories=[[1, 1], [2, 2], [2, 2]])
    figures = figures_of(pages, np.array([2.0, 1.0, 2.0, 1.0, 0.0, 0.0]))
    # the one positive second: 1 / log2(3); first: 1; none: no figure
    np.testing.assert_allclose(figures.ndcg_at_10, [1 / np.log2(3), 1.0, np.nan])
    paired = paired_figures(figures, figures_of(pages, np.array([1.0, 2.0, 2.0, 1.0, 0.0, 0.0])))
    assert paired.first.mean == pytest.approx((1 / np.log2(3) + 1) / 2)
    assert paired.all.mean == pytest.approx((1 / np.log2(3) - 1) / 2)
    assert paired.by_category["pet"].mean == 0
    assert paired.macro.mean == pytest.approx((1 / np.log2(3) - 1) / 2)
    assert paired.category_pages == {"dairy": 1.0, "pet": 1.0}


def test_a_difference_is_that_of_an_evaluation_with_both_rankings():
    pages = synthetic_pages(120, mixed=True)
    random = np.random.default_rng(3)
    scores = {"first": random.random(pages.candidates), "second": pages.feature("sales_28d")}
    paired = paired_figures(*(figures_of(pages, values) for values in scores.values()))
    evaluation = evaluate(
        {"Promotion": pages},
        {name: {"Promotion": values} for name, values in scores.items()},
        category_names=NAMES,
        network="first",
    )
    wanted = evaluation.tasks["Promotion"].differences["second"]
    assert paired.all == wanted.all
    assert paired.macro == wanted.macro
    assert paired.by_category == wanted.by_category


def test_figures_are_read_back_as_they_were(tmp_path):
    pages = synthetic_pages(30)
    written = {"Search": figures_of(pages, pages.feature("als"))}
    write_figures(tmp_path / "figures.npz", written)
    (read,) = read_figures(tmp_path / "figures.npz").values()
    np.testing.assert_array_equal(read.ndcg_at_10, written["Search"].ndcg_at_10)
    np.testing.assert_array_equal(read.categories.group, written["Search"].categories.group)
    assert read.categories.names == NAMES
    assert [path.name for path in tmp_path.iterdir()] == ["figures.npz"]


def test_damaged_figures_are_named(tmp_path):
    path = tmp_path / "figures.npz"
    with pytest.raises(PageFiguresError, match=r"figures\.npz"):
        read_figures(path)
    path.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(PageFiguresError, match="want figures of pages"):
        read_figures(path)
    np.savez(path.with_suffix(".npz"), other=np.ones(2))
    with pytest.raises(PageFiguresError, match="got no 'categories'"):
        read_figures(path)


def test_figures_of_other_pages_are_not_paired():
    pages = page_set([[0, 1], [1, 0]])
    first = task_figures(pages, np.arange(4.0), np.array([0, 1]), NAMES)
    second = task_figures(pages, np.arange(4.0), np.array([0, 2]), NAMES)
    with pytest.raises(PageFiguresError, match="want figures of the same pages"):
        paired_figures(first, second)


def test_the_mean_of_trainings_is_taken_page_by_page():
    pages = page_set([[0, 1], [1, 0]])
    one, two = (figures_of(pages, np.array(v)) for v in ([1.0, 2, 2, 1], [2.0, 1, 2, 1]))
    mean = mean_figures([one, two])
    np.testing.assert_allclose(mean.ndcg_at_10, [(1 + 1 / np.log2(3)) / 2, 1.0])

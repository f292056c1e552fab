"""A data set with another beside it to learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.trainer.formats.folders import write_judgments, write_pairs, write_ratings
from trainer.formats.errors import DataError
from trainer.formats.folder import Reading, read_pages
from trainer.formats.labelled_pages import TRAIN


def test_the_other_data_set_is_trained_on_and_never_tested(tmp_path: Path) -> None:
    target, source = tmp_path / "shop", tmp_path / "teacher"
    for folder in (target, source):
        folder.mkdir()
    write_judgments(target, queries=12)
    write_pairs(source, queries=18)
    alone = read_pages(target, Reading())
    both = read_pages(target, Reading(source=source))
    teacher = read_pages(source, Reading())
    assert both.count == alone.count + teacher.count
    for fold, before in zip(both.folds, alone.folds, strict=True):
        assert np.array_equal(fold[: alone.count], before)
        assert (fold[alone.count :] == TRAIN).all()
    assert both.feature_names == alone.feature_names
    assert np.array_equal(both.dense[: alone.rows.size], alone.dense, equal_nan=True)
    # the teacher has no prices
    price = both.dense[alone.rows.size :, both.feature_names.index("log_price")]
    assert np.isnan(price).all()
    last = int(both.rows[-1])
    assert both.product_texts[last] == teacher.product_texts[int(teacher.rows[-1])]
    assert both.queries[both.page_queries[-1]] == teacher.queries[teacher.page_queries[-1]]
    # categories of the same name are one
    assert both.categories == ("bells", "clocks")
    assert np.unique(both.clusters).size == both.count


def test_pages_with_queries_do_not_learn_from_pages_without(tmp_path: Path) -> None:
    target, source = tmp_path / "shop", tmp_path / "teacher"
    for folder in (target, source):
        folder.mkdir()
    write_judgments(target)
    write_ratings(source)
    with pytest.raises(DataError, match="got teacher with home pages, want search pages"):
        read_pages(target, Reading(source=source))

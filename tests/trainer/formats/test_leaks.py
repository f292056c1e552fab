"""Features that give labels away are named and refused, unless they are allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.trainer.formats.folders import write_pairs
from trainer.formats.errors import DataError
from trainer.formats.folder import Reading, read_pages
from trainer.formats.leaks import refuse_leaks


def leaking(folder: Path, noise: float) -> None:
    """Write pairs with a score that is the grade, more or less."""
    write_pairs(folder)
    path = folder / "train.csv"
    frame = pl.read_csv(path)
    random = np.random.default_rng(0)
    score = frame["median_relevance"] * 1.0 + noise * random.normal(size=frame.height)
    frame.with_columns(score=score).write_csv(path)


def test_a_score_made_of_the_grade_is_refused_and_named(tmp_path: Path) -> None:
    leaking(tmp_path, 0.0)
    pages = read_pages(tmp_path, Reading())
    with pytest.raises(DataError, match=r"retrieval_score \(AUC 1\.000\)") as caught:
        refuse_leaks(pages, ())
    assert "--allow-leaks retrieval_score" in str(caught.value)


def test_an_allowed_leak_passes_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    leaking(tmp_path, 0.0)
    pages = read_pages(tmp_path, Reading())
    refuse_leaks(pages, leaks_of_the_rule(pages.feature_names))
    with pytest.raises(DataError, match="nearest: retrieval_score"):
        refuse_leaks(pages, ("retrieval_scor",))


def test_a_good_score_is_no_leak(tmp_path: Path) -> None:
    leaking(tmp_path, 2.0)
    pages = read_pages(tmp_path, Reading())
    allowed = [name for name in leaks_of_the_rule(pages.feature_names) if name != "retrieval_score"]
    refuse_leaks(pages, tuple(allowed))


def leaks_of_the_rule(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the features that the folder's rule makes perfect: how many words a title holds."""
    return tuple(name for name in names if name not in {"own_count", "judged_elsewhere"})

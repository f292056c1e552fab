"""Full ranking: what is retrieved out of a category, and what is missed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from tests.trainer.formats.folders import write_interactions
from trainer.formats.folder import Reading, read_pages
from trainer.formats.labelled_pages import TEST
from trainer.formats.shopper_pages import ShopperLimits


def test_followers_of_the_past_are_retrieved_first_and_the_past_never(tmp_path: Path) -> None:
    write_long_rings(tmp_path)
    limits = ShopperLimits((200, 60, 60), candidates=6, test_candidates=6, full=True)
    pages = read_pages(tmp_path, Reading(limits=limits))
    tested = np.flatnonzero(pages.folds[0] == TEST)
    reached = 0
    for page in tested.tolist():
        inside = slice(int(pages.offsets[page]), int(pages.offsets[page + 1]))
        had = pages.history[page][pages.history[page] >= 0]
        assert not np.isin(pages.rows[inside], had).any()
        assert np.unique(pages.rows[inside]).size == pages.rows[inside].size <= 6
        reached += int(pages.grades[inside].sum())
    # others took the asked product right after the last one, so it is found
    assert reached == tested.size
    training = np.flatnonzero(pages.folds[0] != TEST)
    positives = np.add.reduceat(pages.grades, pages.offsets[:-1])
    assert (positives[training] == 1).all()


def test_a_product_that_nobody_took_with_the_past_is_missed_and_stays_a_test_page(
    tmp_path: Path,
) -> None:
    write_long_rings(tmp_path)
    path = tmp_path / "interactions.parquet"
    frame = pl.read_parquet(path)
    odd = pl.DataFrame(
        {"reviewer_id": ["odd"] * 4, "asin": ["p0", "p1", "p2", "p47"], "pos": [0, 1, 2, 3]}
    )
    pl.concat([frame, odd.cast(frame.schema)]).write_parquet(path)
    limits = ShopperLimits((200, 60, 60), candidates=4, test_candidates=4, full=True)
    pages = read_pages(tmp_path, Reading(limits=limits))
    positives = np.add.reduceat(pages.grades, pages.offsets[:-1])
    assert (positives[pages.folds[0] == TEST] == 0).sum() == 1
    assert (pages.positives_total == 1).all()


def write_long_rings(folder: Path) -> None:
    """Write shoppers' orders through four rings of twelve products, half of a ring each."""
    write_interactions(folder)
    rows = [
        {"reviewer_id": f"u{shopper}", "asin": f"p{(shopper % 4) * 12 + (step + shopper) % 12}",
         "pos": step}
        for shopper in range(96)
        for step in range(6)
    ]  # fmt: skip
    pl.DataFrame(rows).write_parquet(folder / "interactions.parquet")
    items = [
        {"asin": f"p{item}", "category": "ropes" if item < 24 else "anvils"} for item in range(48)
    ]
    pl.DataFrame(items).write_ndjson(folder / "items.jsonl")

"""Keeping up by time: windows worked out from page times, and one small comparison."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainer.encoding.encoded import SPLITS
from trainer.errors import DailyError
from trainer.pipeline import first_test_day
from trainer.studies.daily import NEVER, SCRATCH, WARM, compare_daily
from trainer.studies.daily_report import write_daily
from trainer.studies.daily_windows import (
    DailyPlan,
    check_plan,
    date_of_day,
    day_of_date,
    everything_until,
    newest_and_replayed,
    page_days,
    thinned,
)


@pytest.fixture(scope="module")
def plan(tiny_log):
    return DailyPlan(
        first_day=first_test_day(tiny_log.prepared),
        days=14,
        every=7,
        window_days=21,
        replay_share=0.5,
        learning_rate=1e-3,
        l2_sp=0.0,
        page_share=1.0,
    )


def pages_in(log, split):
    return set(np.flatnonzero(log.splits == SPLITS.index(split)).tolist())


def test_a_date_and_its_day_belong_together():
    assert day_of_date("1970-01-02") == 1
    assert date_of_day(day_of_date("2017-11-13")) == "2017-11-13"
    with pytest.raises(DailyError, match="from: got 'monday', want a date such as 2017-11-13"):
        day_of_date("monday")


def test_nothing_of_a_day_or_after_it_is_learned(tiny_log, plan):
    day = plan.first_day + 7
    days = page_days(tiny_log)
    whole = everything_until(tiny_log, day, day + 7, plan)
    learned, held, tested = (pages_in(whole, split) for split in SPLITS)
    assert learned | held == set(np.flatnonzero(days < day).tolist())
    assert not learned & held
    assert tested == set(np.flatnonzero((days >= day) & (days < day + 7)).tolist())
    assert held
    assert all(days[page] >= day - plan.window_days for page in held)


def test_a_warm_start_learns_the_window_and_a_share_of_older_pages(tiny_log, plan):
    day = plan.first_day
    days, surfaces = page_days(tiny_log), tiny_log.selection.surfaces
    whole = pages_in(everything_until(tiny_log, day, day + 7, plan), "train")
    log = newest_and_replayed(tiny_log, day, day + 7, plan, seed=1)
    learned = pages_in(log, "train")
    assert learned <= whole
    newest = {page for page in whole if days[page] >= day - plan.window_days}
    assert newest <= learned
    for surface in np.unique(surfaces).tolist():
        window = sum(surfaces[page] == surface for page in newest)
        older = sum(surfaces[page] == surface for page in whole - newest)
        replayed = sum(surfaces[page] == surface for page in learned - newest)
        assert replayed == min(round(0.5 * window), older)
    again = newest_and_replayed(tiny_log, day, day + 7, plan, seed=1)
    np.testing.assert_array_equal(log.splits, again.splits)


def test_a_share_of_pages_is_spread_over_time(tiny_log):
    half = thinned(tiny_log, 0.5)
    assert thinned(tiny_log, 1.0) is tiny_log
    for surface in np.unique(tiny_log.selection.surfaces):
        count = int((tiny_log.selection.surfaces == surface).sum())
        assert int((half.selection.surfaces == surface).sum()) == -(-count // 2)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"days": 0}, "days: got 0, want at least 1"),
        ({"every": 15}, "every: got 15, want 1 to 14"),
        ({"replay_share": -1.0}, "replay_share: got -1.0, want at least 0"),
        ({"page_share": 0.0}, "page_share: got 0.0, want above 0 up to 1"),
        ({"first_day": 1}, "days: got 1970-01-02 to 1970-01-15, want days after"),
        ({"days": 9_999}, "days: got .*, its last"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(tiny_log, plan, changes, complaint):
    with pytest.raises(DailyError, match=complaint):
        check_plan(replace(plan, **changes), tiny_log)


@pytest.mark.slow
def test_the_ways_are_compared_and_kept(tiny_config, tiny_log, plan, tmp_path):
    config = replace(tiny_config, epochs=1, trees=False)
    daily = compare_daily(config, tiny_log, plan, tmp_path, progress=False)
    assert daily.seconds[NEVER] == [0, 0]
    assert daily.seconds[WARM][0] == daily.seconds[SCRATCH][0] == 0
    assert daily.seconds[WARM][1] > 0
    assert daily.seconds[SCRATCH][1] > 0
    for task in daily.tasks.values():
        # all ways share the network of the first step
        first = {way: task.by_step[way][0].mean for way in (NEVER, SCRATCH, WARM)}
        assert len({round(value, 9) for value in first.values() if np.isfinite(value)}) <= 1
    sheet = write_daily(tmp_path / "daily.json", daily)
    assert (tmp_path / "daily.json").exists()
    assert sheet.sections
    again = compare_daily(config, tiny_log, plan, tmp_path, progress=False)
    assert again.seconds == daily.seconds  # read back, nothing was trained again
    assert list((tmp_path / "daily").glob("*.npz"))

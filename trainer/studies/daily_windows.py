"""The pages of a log as each way of keeping up learns them: windows by time, and replay."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.encoding.encoded import SPLITS, EncodedLog
from trainer.encoding.log_share import with_pages
from trainer.encoding.pageset import Integers, Mask
from trainer.errors import DailyError

_HELD_SHARE = 10  # one in so many shopper-days of the newest window stops a training early
_LEFT_OUT = -1


@dataclass(frozen=True, slots=True)
class DailyPlan:
    """What is compared.

    Attributes:
        first_day: First day that is measured (UTC), counted from 1970-01-01.
        days: How many days are measured.
        every: Days of a step; each step trains once, before its first day.
        window_days: The newest days, which a warm start learns and every training stops by.
        replay_share: Older pages a warm start learns beside them, as a share of the window's.
        learning_rate: Of a warm start.
        l2_sp: Pull of a warm start to the weights it started from.
        page_share: Share of all pages, evenly spread over time, that takes part.
    """

    first_day: int
    days: int
    every: int = 1
    window_days: int = 28
    replay_share: float = 0.3
    learning_rate: float = 5e-4
    l2_sp: float = 0.0
    page_share: float = 1.0

    @property
    def starts(self) -> list[int]:
        """The first day of each step."""
        return list(range(self.first_day, self.first_day + self.days, self.every))

    @property
    def end(self) -> int:
        """The day after the last."""
        return self.first_day + self.days


def day_of_date(text: str) -> int:
    """Return the day of a date such as 2017-11-13, counted from 1970-01-01.

    Raises:
        DailyError: When it is no date.
    """
    try:
        date = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise DailyError(f"from: got {text!r}, want a date such as 2017-11-13") from error
    return int(date.timestamp()) // SECONDS_PER_DAY


def date_of_day(day: int) -> str:
    """Return the date of a day counted from 1970-01-01."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).strftime("%Y-%m-%d")


def page_days(log: EncodedLog) -> Integers:
    """Return the day (UTC) of each page, shape (pages,)."""
    days: Integers = log.prepared.page_times[log.selection.pages] // SECONDS_PER_DAY
    return days


def check_plan(plan: DailyPlan, log: EncodedLog) -> None:
    """Refuse a plan that the log cannot be compared by.

    Raises:
        DailyError: When a number is out of its range, or days lie outside the log.
    """
    ranges: dict[str, tuple[float, float]] = {
        "days": (1, math.inf),
        "every": (1, plan.days),
        "window_days": (1, math.inf),
        "replay_share": (0, math.inf),
        "l2_sp": (0, math.inf),
    }
    for name, (low, high) in ranges.items():
        value = getattr(plan, name)
        if not low <= value <= high:
            want = f"at least {low}" if high == math.inf else f"{low} to {high}"
            raise DailyError(f"{name}: got {value}, want {want}")
    if not 0 < plan.learning_rate < math.inf:
        raise DailyError(f"learning_rate: got {plan.learning_rate}, want a number above 0")
    if not 0 < plan.page_share <= 1:
        raise DailyError(f"page_share: got {plan.page_share}, want above 0 up to 1")
    days = page_days(log)
    first, last = int(days.min()), int(days.max())
    if not first < plan.first_day <= last or plan.end > last + 1:
        raise DailyError(
            f"days: got {date_of_day(plan.first_day)} to {date_of_day(plan.end - 1)}, want days "
            f"after {date_of_day(first)}, the log's first, up to {date_of_day(last)}, its last"
        )


def thinned(log: EncodedLog, share: float) -> EncodedLog:
    """Return the log with a share of each surface's pages, evenly spread over time."""
    if share == 1:
        return log
    kept = []
    for surface in np.unique(log.selection.surfaces):
        pages = np.flatnonzero(log.selection.surfaces == surface)
        count = math.ceil(pages.size * share)
        kept.append(pages[np.arange(count) * pages.size // count])
    return with_pages(log, np.sort(np.concatenate(kept)), f"{log.folder.name}-share-{share:g}")


def everything_until(log: EncodedLog, day: int, until: int, plan: DailyPlan) -> EncodedLog:
    """Return the log split at a day: all pages before it are learned, those up to `until` tested.

    Of the newest window one in ten shopper-days is held out for validation, whichever way learns.
    """
    days = page_days(log)
    splits = np.full(days.size, _LEFT_OUT, np.int8)
    splits[days < day] = SPLITS.index("train")
    splits[_held(log, day, plan)] = SPLITS.index("validation")
    splits[(days >= day) & (days < until)] = SPLITS.index("test")
    return _split(log, splits, f"until-{date_of_day(day)}-{plan.window_days}")


def newest_and_replayed(
    log: EncodedLog, day: int, until: int, plan: DailyPlan, seed: int
) -> EncodedLog:
    """Return the log split at a day as a warm start learns it: the newest window and some older.

    Older pages are drawn at random for each surface, anew at each day.
    """
    whole = everything_until(log, day, until, plan)
    days, splits = page_days(log), whole.splits.copy()
    learned = splits == SPLITS.index("train")
    newest = days >= day - plan.window_days
    random = np.random.default_rng((seed, day))
    for surface in range(len(log.schema.surfaces)):
        of_surface = learned & (log.selection.surfaces == surface)
        older = np.flatnonzero(of_surface & ~newest)
        count = round(plan.replay_share * int((of_surface & newest).sum()))
        splits[random.permutation(older)[count:]] = _LEFT_OUT
    return _split(log, splits, f"{whole.folder.name}-replay-{plan.replay_share:g}-{seed}")


def _held(log: EncodedLog, day: int, plan: DailyPlan) -> Mask:
    days = page_days(log)
    shoppers = log.prepared.page_shoppers[log.selection.pages].astype(np.int64)
    held: Mask = (shoppers + days) % _HELD_SHARE == 0
    return held & (days < day) & (days >= day - plan.window_days)


def _split(log: EncodedLog, splits: np.ndarray, name: str) -> EncodedLog:
    return replace(log, folder=log.folder.parent / f"{log.folder.name}-{name}", splits=splits)

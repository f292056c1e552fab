"""Which stretch of time is a day of the loop: a real one, or a short one that stands for it.

A demonstration plays days in minutes: traffic of two hundred seconds is two days of a hundred
seconds each, named by consecutive dates.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

DAY = timedelta(days=1)
# Events are waited for this long after the day of their search.
EVENT_DELAY = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Days:
    """How days follow each other.

    Attributes:
        begin: When the day begins that has the date of this moment (UTC).
        length: Of every day, more than nothing.
    """

    begin: datetime = _EPOCH
    length: timedelta = DAY

    @property
    def delay(self) -> timedelta:
        """How long after its end a day's events may still come: a 24th of its length."""
        return EVENT_DELAY * (self.length / DAY)

    def start(self, day: date) -> datetime:
        """Return the moment at which a day begins, UTC."""
        return self.begin + (day - self.begin.date()).days * self.length

    def day_of(self, moment: datetime) -> date:
        """Return the day that a moment lies in."""
        return self.begin.date() + timedelta(days=(moment - self.begin) // self.length)

"""What one check of an installation found."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Grade(enum.Enum):
    """How bad a finding is."""

    GOOD = "good"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: What was looked at.
        grade: BROKEN when a server would not start, or not do what it is told to; WARNING when it
            would, with a danger.
        found: What was got and what is wanted.
        advice: What to do; empty when it is good.
    """

    check: str
    grade: Grade
    found: str
    advice: str = ""


def good(check: str, found: str) -> Finding:
    """Return that a check found nothing wrong."""
    return Finding(check, Grade.GOOD, found)


def warning(check: str, found: str, advice: str) -> Finding:
    """Return a danger."""
    return Finding(check, Grade.WARNING, found, advice)


def broken(check: str, found: str, advice: str) -> Finding:
    """Return what keeps a server from doing its work."""
    return Finding(check, Grade.BROKEN, found, advice)

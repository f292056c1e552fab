"""Says on the terminal which step of how many runs, and how long each took."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TextIO

BEAT_S = 15.0
_INDENT = "      "


class StepDisplay:
    """Numbered steps, each with its lines and its time; written at once, also into a pipe."""

    def __init__(self, total: int, out: TextIO | None = None, beat_s: float = BEAT_S) -> None:
        """Count from 1 to `total` on `out`, standard output unless given.

        A step that says nothing for `beat_s` is said to go on, unless there are bars.
        """
        self._beat_s = beat_s
        self._said = monotonic()
        self._total = total
        self._out = out or sys.stdout
        self._number = 0
        self._begun = monotonic()
        self.seconds: dict[str, float] = {}
        self._quiet = threading.Event()

    @property
    def bars(self) -> bool:
        """Whether progress bars are of use: they are drawn on standard error."""
        return sys.stderr.isatty()

    @contextmanager
    def step(self, name: str, doing: str) -> Iterator[None]:
        """Announce a step and, when its block is done, say how long it took."""
        self._number += 1
        begun = monotonic()
        self._write(f"[{self._number}/{self._total}] {name}: {doing}")
        self._quiet = done = threading.Event()
        if not self.bars:
            threading.Thread(target=self._beat, args=(begun, done), daemon=True).start()
        try:
            yield
        finally:
            done.set()
        self.seconds[name] = monotonic() - begun
        self.say(f"done in {_duration(self.seconds[name])}")

    def wait_for_people(self) -> None:
        """From now on the running step waits for people: that it goes on is no news."""
        self._quiet.set()

    def say(self, text: str) -> None:
        """Write text under the running step."""
        self._said = monotonic()
        for line in text.splitlines():
            self._write(f"{_INDENT}{line}".rstrip())

    def show(self, text: str) -> None:
        """Write a table from the left margin, with a blank line around it."""
        self._write(f"\n{text}\n")

    def total(self) -> str:
        """The time since the display was made, in words."""
        return _duration(monotonic() - self._begun)

    def _beat(self, begun: float, done: threading.Event) -> None:
        """Say now and then, where no bar does, that the step goes on."""
        while not done.wait(self._beat_s):
            if monotonic() - self._said >= self._beat_s:
                self.say(f"goes on, {_duration(monotonic() - begun)}")

    def _write(self, line: str) -> None:
        self._out.write(f"{line}\n")
        self._out.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"

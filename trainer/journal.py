"""The journal of a run: losses and figures by step, as JSON lines and as TensorBoard events."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from trainer.atomic_text import write_text

LOG = "training.jsonl"


class Journal:
    """The log of a run, open for appending."""

    def __init__(self, folder: Path, step: int) -> None:
        """Open for appending after `step`; lines of later steps were lost work and go.

        -1 stands for a run that has not begun.
        """
        path = folder / LOG
        keep_lines_until(path, step)
        self._file = path.open("a", encoding="utf-8")
        self._events = EventFileWriter(str(folder / "tensorboard"))
        # tells TensorBoard to forget what an earlier, killed run wrote of later steps
        start = SessionLog(status=SessionLog.START)
        self._events.add_event(Event(wall_time=time.time(), step=step + 1, session_log=start))

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add one line and one event."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        summary = Summary(
            value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        )
        self._events.add_event(Event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        """Make what was written visible to a reader."""
        self._file.flush()
        self._events.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        self._events.close()


def keep_lines_until(path: Path, step: int) -> None:
    """Drop the lines of JSON at `path` that are of a later step, or that a kill has cut."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    write_text(path, "".join(f"{line}\n" for line in lines if _step_of(line) <= step))


def _step_of(line: str) -> float:
    """Return the step of a line; infinity for one that a kill has cut."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf

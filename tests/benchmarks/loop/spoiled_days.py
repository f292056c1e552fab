"""Which days the checks refuse: those of a run as they were, and each spoiled in three ways.

    python -m tests.benchmarks.loop.spoiled_days FOLDER

FOLDER is that of `tests.benchmarks.loop run`. Writes `results/loop_spoiled_days.json`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import get_args

from deploy.loop.day_checks import findings
from deploy.loop.documents import document_of
from deploy.loop.poison import Poison, poisoned
from deploy.loop.search_log import EVENTS, QUERIES, SEARCHES, SearchLog, read_search_log
from deploy.loop.streams import JsonLineStreams
from deploy.loop.traffic import DayOfTraffic
from tests.benchmarks.loop.__main__ import FIRST_DAY, RESULTS, WINDOW_DAYS
from trainer.atomic_text import write_text

DAY = timedelta(days=1)


def main(out: Path) -> None:
    """Check every day of both arms but the first, and write the counts."""
    refused: Counter[str] = Counter()
    example: dict[str, str] = {}
    days = 0
    for figures in sorted(out.glob("*/figures.json")):
        streams = JsonLineStreams(figures.parent / "streams")
        for number in range(1, len(json.loads(figures.read_text()))):
            start = FIRST_DAY + number * DAY
            before = read_search_log(streams, start - WINDOW_DAYS * DAY, start).searches
            days += 1
            for kind in ("", *get_args(Poison)):
                found = findings(_spoiled(streams, start, kind), before)
                refused[kind or "as it was"] += bool(found)
                if found:
                    example.setdefault(kind or "as it was", found[0])
    result = {
        "command": "python -m tests.benchmarks.loop.spoiled_days FOLDER",
        "days": days,
        "refused": {kind: refused[kind] for kind in ("as it was", *get_args(Poison))},
        "first_reason": example,
    }
    write_text(RESULTS / "loop_spoiled_days.json", json.dumps(result, indent=1) + "\n")


def _spoiled(streams: JsonLineStreams, start: datetime, kind: str) -> SearchLog:
    end = start + DAY
    day = DayOfTraffic(
        {
            stream: [document_of(row) for row in streams.read(stream, start, end)]
            for stream in (SEARCHES, QUERIES, EVENTS)
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        spoiled = JsonLineStreams(Path(folder))
        for stream, documents in (poisoned(day, kind) if kind else day).streams.items():
            spoiled.append(stream, documents)
        return read_search_log(spoiled, start, end)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

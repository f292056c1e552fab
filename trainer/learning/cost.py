"""What a computation cost: wall time, and the most memory it held."""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # see proc(5), clear_refs


@dataclass(slots=True)
class Cost:
    """Seconds of wall time, and the peak of the process's resident memory in MiB."""

    seconds: float = 0.0
    peak_mib: float = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    """Yield a cost that is filled in at the end.

    Where the system does not let a process forget its earlier peak, the peak is that of the
    process so far.
    """
    cost = Cost()
    with suppress(OSError):
        _RESET.write_text(_RESET_PEAK, encoding="ascii")
    began = time.monotonic()
    yield cost
    cost.seconds = round(time.monotonic() - began, 1)
    cost.peak_mib = round(_peak_mib(), 0)


def _peak_mib() -> float:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"))
    except OSError:
        found = None
    kib = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / 1024

"""How often a client had to answer by itself, and why."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from time import monotonic

_LOG_EVERY_S = 10.0
_LOG = logging.getLogger(__name__)


class Fallbacks:
    """Counts by reason; may be shared by threads. A warning is logged at most every 10 s."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._logged = -_LOG_EVERY_S

    def count(self, reason: str) -> None:
        """Count one page in retrieval order."""
        with self._lock:
            self._counts[reason] += 1
            now = monotonic()
            quiet = now - self._logged < _LOG_EVERY_S
            if not quiet:
                self._logged = now
            counts = dict(self._counts)
        if not quiet:
            _LOG.warning("pages in retrieval order: %s", counts)

    def by_reason(self) -> Mapping[str, int]:
        """Return the counts so far."""
        with self._lock:
            return dict(self._counts)

"""What callers saw of a server under load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = npt.NDArray[np.float64]
_PERCENTILES = (50, 90, 99, 99.9)
_LATE_S = 0.001


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """Figures of one run.

    Attributes:
        loop: "open" or "closed".
        seconds: From the first page to the last answer.
        latencies_ms: Of every page, degraded ones included, shape (pages,). Open loop: from when
            the page should have been sent.
        server_us: What the server says it took, shape (answered pages,).
        degraded: Pages in retrieval order by reason.
        sent_late_share: Share of the pages that were sent more than 1 ms after their time; 0 in a
            closed loop, where no page has a time.
    """

    loop: str
    seconds: float
    latencies_ms: Values
    server_us: Values
    degraded: Mapping[str, int]
    sent_late_share: float

    @property
    def scored(self) -> int:
        """Pages with scores."""
        return int(self.latencies_ms.shape[0] - sum(self.degraded.values()))

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON values; percentiles are NaN without pages."""
        pages = int(self.latencies_ms.shape[0])
        latencies = self.latencies_ms if pages else np.array([np.nan])
        values: dict[str, Any] = {
            "loop": self.loop,
            "seconds": round(self.seconds, 3),
            "pages": pages,
            "scored_pages": self.scored,
            "scored_pages_per_s": self.scored / self.seconds if self.seconds else float("nan"),
        }
        for percentile in _PERCENTILES:
            values[f"latency_p{percentile:g}_ms"] = float(np.percentile(latencies, percentile))
        values["latency_max_ms"] = float(latencies.max())
        values["server_p50_ms"] = (
            float(np.median(self.server_us)) / 1_000 if self.server_us.size else float("nan")
        )
        values["sent_late_share"] = self.sent_late_share
        values["degraded"] = dict(self.degraded)
        return values


@dataclass(slots=True)
class LoadRecord:
    """Collects what callers see, page by page."""

    latencies_s: list[float] = field(default_factory=list)
    server_us: list[int] = field(default_factory=list)
    lateness_s: list[float] = field(default_factory=list)
    degraded: Counter[str] = field(default_factory=Counter)

    def figures(self, loop: str, seconds: float) -> LoadFigures:
        """Return the figures of all pages so far."""
        late = np.array(self.lateness_s)
        return LoadFigures(
            loop=loop,
            seconds=seconds,
            latencies_ms=np.array(self.latencies_s, np.float64) * 1_000,
            server_us=np.array(self.server_us, np.float64),
            degraded=dict(self.degraded),
            sent_late_share=float((late > _LATE_S).mean()) if late.size else 0.0,
        )

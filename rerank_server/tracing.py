"""The caller's trace: the `traceparent` header of W3C Trace Context (level 1, section 3.2)."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

HEADER = "traceparent"
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceParent:
    """Which trace and which span of it called.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits, the caller's span.
        sampled: Whether the caller records its trace.
    """

    trace_id: str
    span_id: str
    sampled: bool


def read_traceparent(header: str | None) -> TraceParent | None:
    """Return the trace of a `traceparent` header; None when it is absent or not valid."""
    match = _TRACEPARENT.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest):
        return None
    if trace_id == "0" * 32 or span_id == "0" * 16:
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def in_sample(share: float, trace: TraceParent | None) -> bool:
    """Decide whether a call belongs to a sample of `share`, 0 to 1.

    The calls of one trace are decided alike, by the last 56 bits of its id as in OpenTelemetry's
    consistent probability sampling; calls without a trace at random.
    """
    if share >= 1.0:
        return True
    if share <= 0.0:
        return False
    if trace is None:
        return random.random() < share
    return int(trace.trace_id[-14:], 16) < share * 2**56

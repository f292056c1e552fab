"""The access log: one structured line per call, sampled; it holds no query, id or token."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rerank_server.contract.errors import RerankError
from rerank_server.tokens import CALLER, TokenBucket
from rerank_server.tracing import TraceParent, in_sample

MIN_KEY_BYTES = 16
_SHOPPER_DIGITS = 16
# Degraded calls written a second; an overloaded server has better things to do than to write more.
DEGRADED_PER_S = 20.0
_STAGES = ("queue_us", "lookup_us", "query_us", "encode_us", "score_us", "policy_us")
_LOG = logging.getLogger(__name__)


class AccessLogError(RerankError):
    """A key of shopper ids that cannot be used."""


@dataclass(frozen=True, slots=True)
class AccessLog:
    """Writes a call when it failed or was degraded, is in the sample, or the level is debug.

    Of the degraded ones it writes 20 a second; metrics count them all.

    Attributes:
        share: Share of the other calls that is written, 0 to 1.
        shopper_key: Key of the hash that stands for a shopper id; without one, no line says
            anything of the shopper.
        degraded_lines: Says whether one more degraded call is written.
    """

    share: float = 0.0
    shopper_key: bytes | None = field(default=None, repr=False)
    degraded_lines: TokenBucket = field(
        default_factory=lambda: TokenBucket(DEGRADED_PER_S, DEGRADED_PER_S, time.monotonic)
    )

    def write(
        self,
        method: str,
        code: str,
        took_us: int,
        *,
        trace: TraceParent | None,
        request: Any,  # noqa: ANN401 - any message
        response: Any,  # noqa: ANN401 - any message; None when the call failed
    ) -> None:
        """Write the line of one call, if it is one of those to write."""
        degraded = bool(getattr(response, "degraded", False))
        telling = code != "OK" or in_sample(self.share, trace)
        if degraded and not telling:
            telling = self.degraded_lines.take(1) == 0
        level = logging.INFO if telling else logging.DEBUG
        if not _LOG.isEnabledFor(level):
            return
        fields: dict[str, object] = {
            "method": method,
            "code": code,
            "degraded": degraded,
            "took_us": took_us,
        }
        if trace is not None:
            fields |= {"trace_id": trace.trace_id, "parent_span_id": trace.span_id}
        if caller := CALLER.get():
            fields["caller"] = caller
        if hasattr(request, "candidate_ids"):
            fields["candidates"] = len(request.candidate_ids)
            if self.shopper_key is not None and request.shopper_id:
                fields["shopper"] = hash_shopper(request.shopper_id, self.shopper_key)
        if hasattr(response, "timings"):
            fields["bundle_id"] = response.bundle_id[:12]
            fields |= {stage: getattr(response.timings, stage) for stage in _STAGES}
            if degraded:
                fields["degraded_reason"] = degraded_reason(response)
        _LOG.log(level, "call", extra={"fields": fields})


def hash_shopper(shopper_id: str, key: bytes) -> str:
    """Return 16 hexadecimal digits of BLAKE2b keyed with `key` (RFC 7693, section 2.9)."""
    hashed = hashlib.blake2b(
        shopper_id.encode(errors="surrogatepass"), key=key, digest_size=_SHOPPER_DIGITS // 2
    )
    return hashed.hexdigest()


def read_shopper_key(path: Path) -> bytes:
    """Read the key of `hash_shopper`, spaces around it removed.

    Raises:
        AccessLogError: When it cannot be read, or is not 16 to 64 bytes long.
    """
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise AccessLogError(
            f"{path}: got {error.strerror or error}, want a file with a random key"
        ) from error
    if not MIN_KEY_BYTES <= len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
        raise AccessLogError(
            f"{path}: got a key of {len(key)} bytes, want {MIN_KEY_BYTES} to"
            f" {hashlib.blake2b.MAX_KEY_SIZE}"
        )
    return key


def degraded_reason(response: Any) -> str:  # noqa: ANN401 - a message with `degraded_reason`
    """Return why a response is degraded, in lower case: "deadline" for example."""
    field_of = response.DESCRIPTOR.fields_by_name["degraded_reason"]
    known = field_of.enum_type.values_by_number
    number = response.degraded_reason
    name = known[number].name if number in known else str(number)
    return str(name.removeprefix("DEGRADED_REASON_").lower())

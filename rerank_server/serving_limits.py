"""What may wait in the server or be open to it, so that no caller costs it unbounded memory."""

from __future__ import annotations

from dataclasses import dataclass

from rerank_server.admission import Limits
from rerank_server.batcher import BATCH_CANDIDATES


@dataclass(frozen=True, slots=True)
class ServingLimits:
    """Bounds on what callers can keep in the server.

    Attributes:
        queued_candidates: Candidates of the pages that wait for their turn.
        calls: Calls in memory at once, those that wait and are answered included; one more is
            refused.
        unread_calls: Calls that gRPC holds until the event loop accepts them; one more is ended
            without Python (see `brake.py`), its caller sees CANCELLED.
        calls_per_connection: Calls at once on one connection; more wait in the client.
        handshake_ms: When a connection that does not speak HTTP/2 is closed.
        ping_every_ms: How often a silent client is asked whether it is there.
        ping_answer_ms: How long it has to answer; half-open connections end by this.
    """

    queued_candidates: int = 20_000
    calls: int = 1_024
    unread_calls: int = 256
    calls_per_connection: int = 256
    handshake_ms: int = 10_000
    ping_every_ms: int = 40_000
    ping_answer_ms: int = 20_000

    def admission(self, workers: int) -> Limits:
        """Return the limits of `workers` workers: twice a full scorer call may be under way.

        One page more than there are workers, so that none waits for the event loop between two.
        """
        return Limits(
            pages=workers + 1,
            candidates=2 * BATCH_CANDIDATES,
            queued_candidates=self.queued_candidates,
        )

    def channel_options(self) -> tuple[tuple[str, int], ...]:
        """Return gRPC's options."""
        return (
            ("grpc.server.max_pending_requests", self.unread_calls),
            ("grpc.server.max_pending_requests_hard_limit", self.unread_calls),
            ("grpc.max_concurrent_streams", self.calls_per_connection),
            ("grpc.keepalive_time_ms", self.ping_every_ms),
            ("grpc.keepalive_timeout_ms", self.ping_answer_ms),
            # what really ends a connection whose ping has no answer; a minute unless set
            ("grpc.http2.ping_timeout_ms", self.ping_answer_ms),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.server_handshake_timeout_ms", self.handshake_ms),
            ("grpc.http2.settings_timeout", self.handshake_ms),
        )

"""How callers come in and what is seen from outside; all of it off unless told otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rerank_server.access_log import AccessLog
from rerank_server.live_products import LiveProducts
from rerank_server.metrics import Metrics
from rerank_server.observer import Observer
from rerank_server.probes import Probes
from rerank_server.tls import TlsFiles
from rerank_server.tokens import TokenGate

if TYPE_CHECKING:  # needs an extra
    from rerank_server.spans import SpanExport


@dataclass(frozen=True, slots=True)
class Doors:
    """What stands around the service.

    Attributes:
        tls: Certificate and key; None listens in clear text.
        gate: Lets callers in by token; None lets in everyone who reaches the port.
        local: Whether only this machine reaches the port: then, without tokens, what is served
            may be changed through it.
        access_log: Which calls are written.
        metrics: What is counted; None counts nothing.
        spans: Where spans go; None exports none.
        probes: Told when the server has started, takes calls, and turns.
        admin: Whether the admin service answers.
        changes: Takes changes of products; None takes none.
        http_port: Where HTTP is answered too, 0 for a free port; None answers none.
    """

    tls: TlsFiles | None = None
    gate: TokenGate | None = None
    local: bool = True
    access_log: AccessLog = field(default_factory=AccessLog)
    metrics: Metrics | None = None
    spans: SpanExport | None = None
    probes: Probes = field(default_factory=Probes)
    admin: bool = False
    changes: LiveProducts | None = None
    http_port: int | None = None

    def observer(self) -> Observer:
        """Return what sees the calls of every door."""
        return Observer(self.access_log, self.metrics, self.spans)

"""A server of the tests' size; nothing listens before it is started."""

from __future__ import annotations

from datetime import timedelta

from rerank_server.bundle_store import BundleStore
from rerank_server.doors import Doors
from rerank_server.reranker import Reranker
from rerank_server.server import RerankServer
from rerank_server.serving_limits import ServingLimits


def tiny_rerank_server(
    reranker: Reranker | BundleStore[Reranker],
    timeout: timedelta = timedelta(seconds=1),
    *,
    doors: Doors | None = None,
    limits: ServingLimits | None = None,
) -> RerankServer:
    return RerankServer(
        reranker,
        workers=2,
        timeout=timeout,
        max_message_bytes=4 * 1024 * 1024,
        doors=doors,
        limits=limits,
    )

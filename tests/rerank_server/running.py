"""A server of the tests' size; nothing listens before it is started."""

from __future__ import annotations

from datetime import timedelta

from rerank_server.reranker import Reranker
from rerank_server.server import RerankServer


def tiny_rerank_server(
    reranker: Reranker, timeout: timedelta = timedelta(seconds=1)
) -> RerankServer:
    return RerankServer(reranker, workers=2, timeout=timeout, max_message_bytes=4 * 1024 * 1024)

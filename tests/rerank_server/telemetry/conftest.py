"""The shop, its rerank server and streams of a real Elasticsearch for telemetry."""

from __future__ import annotations

from tests.rerank_server.gateway.conftest import reranker_address, shop_url, turning_reranker

__all__ = ["reranker_address", "shop_url", "turning_reranker"]

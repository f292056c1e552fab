"""A shop's indices, a rerank server that turns pages round, and a gateway between them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rerank_server.gateway.settings import GatewaySettings
from rerank_server.reranker import Reranker
from tests.rerank_server.gateway.running import Caller, GatewayUnderTest, gateway, rerank_server
from tests.rerank_server.gateway.shop import shop


@pytest.fixture(scope="module")
def shop_url(elasticsearch_url) -> Iterator[str]:
    with shop(elasticsearch_url) as url:
        yield url


@pytest.fixture(scope="session")
def turning_reranker(other_folders) -> Reranker:
    """For products that its store does not hold, the order is that of retrieval turned round."""
    return Reranker.open(other_folders.bundle, other_folders.products, threads=1)


@pytest.fixture(scope="module")
def reranker_address(turning_reranker) -> Iterator[str]:
    with rerank_server(turning_reranker) as address:
        yield address


@pytest.fixture(scope="module")
def shop_gateway(shop_url, reranker_address) -> Iterator[GatewayUnderTest]:
    settings = GatewaySettings(
        elasticsearch=shop_url, reranker=reranker_address, port=0, rerank_timeout_ms=2_000
    )
    with gateway(settings) as running:
        yield running


@pytest.fixture
def through(shop_gateway) -> Iterator[Caller]:
    """Calls the gateway."""
    caller = Caller(shop_gateway.url)
    yield caller
    caller.close()


@pytest.fixture
def bare(shop_url) -> Iterator[Caller]:
    """Calls Elasticsearch itself."""
    caller = Caller(shop_url)
    yield caller
    caller.close()

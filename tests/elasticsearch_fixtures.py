"""Fixtures that give tests a real Elasticsearch; `conftest.py` imports them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest
from elasticsearch import Elasticsearch

from tests.elasticsearch_installation import ElasticsearchUnavailableError
from tests.elasticsearch_node import start


@pytest.fixture(scope="session")
def elasticsearch_url() -> Iterator[str]:
    """The address of a server that this test session started and will stop.

    Where it cannot be had, tests that need it skip with the reason, and fail under `CI=true`.
    """
    with contextlib.ExitStack() as stack:
        try:
            node = stack.enter_context(start())
        except ElasticsearchUnavailableError as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error))
            pytest.skip(str(error))
        yield node.url


@pytest.fixture
def elasticsearch_client(elasticsearch_url: str) -> Iterator[Elasticsearch]:
    """A client of the server, which is emptied of what CrossRank makes before and after."""
    with Elasticsearch(elasticsearch_url, request_timeout=30) as client:
        _empty(client)
        yield client
        _empty(client)


def _empty(client: Elasticsearch) -> None:
    # Data streams cannot be deleted on the test distribution, nor the templates they live by.
    found = client.indices.get(index="crossrank-*", expand_wildcards="open,closed")
    indices = [name for name in found if not name.startswith(".ds-")]
    if indices:
        client.indices.delete(index=indices)
    for name in ("crossrank-*", "ubi_*"):
        client.options(ignore_status=[400, 404]).indices.delete_index_template(name=name)
    client.options(ignore_status=[400, 404]).cluster.delete_component_template(name="crossrank-*")

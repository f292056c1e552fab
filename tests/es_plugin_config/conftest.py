"""A tiny bundle beside the search configuration."""

from __future__ import annotations

import pytest

from rerank_server.contract.bundle import Bundle
from tests.rerank_server.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="session")
def tiny_bundle_for_search(tmp_path_factory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("search-bundle") / "bundle")

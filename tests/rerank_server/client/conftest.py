"""Servers in processes of their own."""

from __future__ import annotations

import pytest

from tests.rerank_server.client.processes import ServerProcess


@pytest.fixture
def server_process(tiny_folders):
    """Start servers that end with the test."""
    started: list[ServerProcess] = []

    def start(**options) -> ServerProcess:
        started.append(ServerProcess(tiny_folders, **options))
        return started[-1]

    yield start
    for server in started:
        server.kill()

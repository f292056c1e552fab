"""Elasticsearch paused and killed under the gateway; the tests have a node of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from rerank_server.gateway.settings import GatewaySettings
from tests.elasticsearch_node import start
from tests.rerank_server.gateway.running import Caller, gateway

pytestmark = [pytest.mark.elasticsearch, pytest.mark.slow]


def _family(pid: int) -> list[int]:
    """A process and its descendants: the server is a child of what starts it."""
    found = [pid]
    for parent in found:
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False
        )
        found += [int(word) for word in listed.stdout.split()]
    return found


def _wait_until_well(caller: Caller) -> None:
    deadline = time.monotonic() + 30
    while caller.search("shop", {"ext": {"rerank": {}}}).status != 200:
        assert time.monotonic() < deadline


def test_a_paused_and_a_killed_elasticsearch_are_told_as_errors_that_clients_retry(
    elasticsearch_url,  # where there is no node, this skips
):
    with start() as node:
        settings = GatewaySettings(
            elasticsearch=node.url, reranker="127.0.0.1:9", port=0, search_timeout_ms=1_000
        )
        with gateway(settings) as running:
            caller = Caller(running.url)
            assert caller.send("PUT", "/shop/_doc/1?refresh=true", {"t": "milk"}).status == 201
            asking = {"ext": {"rerank": {"window": 10}}}
            _wait_until_well(caller)  # the first search of a new node takes its time
            family = _family(node.pid)
            for pid in family:
                os.kill(pid, signal.SIGSTOP)
            began = time.monotonic()
            paused = caller.search("shop", asking)
            assert time.monotonic() - began < 10
            for pid in family:
                os.kill(pid, signal.SIGCONT)
            assert paused.status == 504
            assert paused.json["error"]["type"] == "crossrank_gateway_exception"
            _wait_until_well(caller)
            for pid in reversed(family):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.5)
            named = {"ext": {"rerank": {"query_id": "killed"}}}
            for answer in (caller.search("shop", named), caller.send("GET", "/_cluster/health")):
                assert answer.status == 502
                assert answer.json["status"] == 502
                assert answer.headers["X-elastic-product"] == "Elasticsearch"
            (record,) = running.records.of("killed")
            assert record.degraded_reason == "elasticsearch_failed"
            assert record.elasticsearch_status == 502
            caller.close()

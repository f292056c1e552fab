"""HTTP that client libraries hide: what goes over the socket, before a real Elasticsearch."""

from __future__ import annotations

import socket

import pytest

from tests.rerank_server.gateway.shop import PRODUCTS

pytestmark = pytest.mark.elasticsearch


@pytest.fixture
def connection(shop_gateway):
    with socket.create_connection(("127.0.0.1", shop_gateway.running.port), timeout=20) as opened:
        yield opened


def read_until(connection, ending):
    read = b""
    while ending not in read:
        part = connection.recv(65_536)
        if not part:
            break
        read += part
    return read


@pytest.mark.parametrize("target", [f"/{PRODUCTS}/_search", f"/{PRODUCTS}/_count"])
def test_a_caller_that_waits_for_leave_gets_it(connection, target):
    body = b'{"query":{"match":{"text":"milk"}}}'
    head = (
        f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    connection.sendall(head.encode())
    assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(body)
    assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")


def test_one_connection_carries_many_requests_and_old_clients_are_closed(connection):
    ask = b"HEAD /%s HTTP/1.1\r\nHost: x\r\n\r\n" % PRODUCTS.encode()
    for _ in range(3):
        connection.sendall(ask)
        answer = read_until(connection, b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"close" not in answer.lower()
    connection.sendall(b"GET /_license HTTP/1.0\r\nHost: x\r\n\r\n")
    assert b'"license"' in read_until(connection, b"\0")


def test_what_is_no_http_is_refused(connection):
    connection.sendall(b"nonsense\r\n\r\n")
    assert read_until(connection, b"\0")[9:12] == b"400"

"""What a connection refuses before anything is sent."""

from __future__ import annotations

import pytest

from rerank_server.client.connection import ClientTls, Connection, ServerAddressError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": " "}, "address: got none, want host:port"),
        ({"timeout_ms": 0}, "timeout_ms: got 0, want 1 to 600000"),
        ({"attempts": 0}, "attempts: got 0, want 1 to 5"),
        ({"attempts": 6}, "attempts: got 6, want 1 to 5"),
        ({"token": "a\nb"}, "token: got characters that no header holds"),
    ],
)
def test_a_value_out_of_range_is_named(options, message):
    with pytest.raises(ServerAddressError, match=message):
        Connection(**options)


@pytest.mark.parametrize(
    "address",
    ["rerank:50061", "dns:///rerank:50061", "ipv4:127.0.0.1:1,10.0.0.7:1", "10.0.0.7:50061"],
)
def test_a_token_does_not_travel_to_other_machines_in_clear_text(address):
    with pytest.raises(ServerAddressError, match="in clear text, want TLS, or insecure_token"):
        Connection(address, token="secret")
    assert Connection(address, token="secret", insecure_token=True).metadata() == (
        ("authorization", "Bearer secret"),
    )
    assert Connection(address, token="secret", tls=ClientTls()).token == "secret"


@pytest.mark.parametrize(
    "address", ["localhost:50061", "127.0.0.1:1", "[::1]:50061", "unix:a.sock", "ipv6:[::1]:1"]
)
def test_a_token_may_travel_within_this_machine(address):
    assert Connection(address, token="secret").metadata()


def test_no_representation_shows_the_token():
    assert "secret" not in repr(Connection(token="secret"))


def test_a_file_that_is_not_there_is_named(tmp_path):
    connection = Connection(tls=ClientTls(tmp_path / "ca.pem"))
    with pytest.raises(ServerAddressError, match=r"ca.pem: got No such file"):
        connection.credentials()


def test_a_certificate_needs_its_key(tmp_path):
    connection = Connection(tls=ClientTls(certificate=tmp_path / "a.pem"))
    with pytest.raises(ServerAddressError, match="got one of them, want both or none"):
        connection.credentials()

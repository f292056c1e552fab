"""The page's port is taken before anything else is done, or refused by name."""

from __future__ import annotations

import socket

import pytest

from deploy.demo.errors import PortError
from deploy.demo.page_server import taken_port


def test_a_port_that_another_program_has_is_named():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortError, match=rf"port {port}: got one that another program has"):
            taken_port(port)


def test_port_0_takes_a_free_one():
    with taken_port(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
        assert listener.getsockname()[1] > 0

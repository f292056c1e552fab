"""A port that several processes share, held so that no other server takes it."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import contextmanager

from rerank_server.contract.errors import RerankError


class PortError(RerankError):
    """A port that cannot be held."""


@contextmanager
def held_port(name: str, host: str, port: int) -> Generator[int]:
    """Hold a port while the block runs and yield its number; 0 takes a free one, -1 none.

    Raises:
        PortError: When it is taken or the address is not of this machine.
    """
    if port < 0:
        yield port
        return
    address = host.strip("[]")
    try:
        family, _, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as alone:  # fails where anybody listens, sharing or not
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(place)
        holder = socket.socket(family)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(place)
    except OSError as error:
        raise PortError(
            f"{name}, {host}:{port}: got {error.strerror or error}, want a free address of this"
            " machine"
        ) from error
    with holder:
        yield int(holder.getsockname()[1])

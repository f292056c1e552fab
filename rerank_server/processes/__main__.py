"""Starts one of the processes behind a port; the supervisor calls it with the end of a socket."""

from __future__ import annotations

import json
import socket
import sys

from rerank_server.contract.errors import RerankError
from rerank_server.one_line_log import configure_logging
from rerank_server.processes.part import Part
from rerank_server.processes.steps import Step
from rerank_server.serving import serve_settings
from rerank_server.settings import read_settings


def main(descriptor: int) -> int:
    """Serve as one of several and return the exit status."""
    end = socket.socket(fileno=descriptor)
    told = json.loads(_first_line(end))
    end.setblocking(False)  # noqa: FBT003 - socket's own
    try:
        settings = read_settings(told["settings"], {})
        configure_logging(settings.log_level, {"process": told["number"]})
        steps = [Step(step["name"], step["arguments"]) for step in told["catch_up"]]
        serve_settings(settings, Part(end, steps, others=settings.processes - 1))
    except RerankError as error:
        sys.stderr.write(f"crossrank: {error}\n")
        return 1
    return 0


def _first_line(end: socket.socket) -> bytes:
    """Return the first line and not a byte of the next."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = end.recv(1)
        if not byte:
            raise SystemExit("process: got the end of the supervisor, want settings")
        line += byte
    return bytes(line)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

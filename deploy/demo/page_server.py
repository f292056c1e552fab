"""Serves the page on a port of this machine until the demo is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable

import uvicorn

from deploy.demo.app import create_app
from deploy.demo.children import RerankServerProcess, Stopped
from deploy.demo.errors import PortError
from deploy.demo.rerank_client import RerankClient
from deploy.demo.retrieval.retriever import Retriever
from deploy.demo.shop import Shop
from deploy.demo.work_folder import WorkFolder

HOST = "127.0.0.1"
_POLL_S = 0.2


def taken_port(port: int) -> socket.socket:
    """Take a port of 127.0.0.1 for ourselves; 0 takes a free one. Nothing listens yet.

    Raises:
        PortError: Another program has it, or it is not ours to take.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # a port that has just been closed may be taken again
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        state = "one that another program has" if error.errno == errno.EADDRINUSE else "none"
        raise PortError(
            f"port {port}: got {state} ({os.strerror(error.errno or 0)}), "
            "want a free one, such as --port 0 takes"
        ) from error
    return listener


def serve_page(
    shop: Shop,
    retriever: Retriever,
    server: RerankServerProcess,
    target: str,
    work: WorkFolder,
    listener: socket.socket,
    *,
    announce: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        shop: What is shown.
        retriever: First-stage retrieval.
        server: The rerank server; its end is announced, the page goes on in retrieval order.
        target: Where it listens.
        work: Where the report is.
        listener: From `taken_port`.
        announce: Told the page's address, and when the server ends.
    """

    async def run() -> None:
        async with RerankClient(target) as client:
            app = create_app(shop, retriever, client, report_path=work.report)
            page = uvicorn.Server(
                uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off",
                               timeout_graceful_shutdown=2)
            )  # fmt: skip
            watch = asyncio.create_task(_watch(page, server, listener, announce))
            try:
                await page.serve(sockets=[listener])
            finally:
                watch.cancel()

    with contextlib.suppress(Stopped):  # the way it is meant to end
        asyncio.run(run())
    announce("stopped; nothing is left running")


async def _watch(
    page: uvicorn.Server,
    server: RerankServerProcess,
    listener: socket.socket,
    announce: Callable[[str], None],
) -> None:
    """Announce that the page is up, and should it happen, that the rerank server is not."""
    while not page.started:
        await asyncio.sleep(_POLL_S)
    announce(f"http://{HOST}:{listener.getsockname()[1]}")
    while server.status is None:
        await asyncio.sleep(_POLL_S)
    announce(
        f"the rerank server ended with status {server.status} (see {server.log_path}); "
        "the page shows retrieval order until the demo is started again"
    )

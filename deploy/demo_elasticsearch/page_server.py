"""Serves the page of the loop on a port of this machine until the demo is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from deploy.demo.children import Stopped
from deploy.demo.page_server import HOST
from deploy.demo_elasticsearch.both_orders import OpenTraffic, search_both
from deploy.demo_elasticsearch.loop_folder import LoopFolder
from deploy.demo_elasticsearch.loop_page import LIVE
from rerank_server.contract.errors import RerankError

# What the page may load: itself, and its own styles inside it.
POLICY = (
    "default-src 'none'; img-src 'self' data:; script-src 'self'; connect-src 'self'; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
_POLL_S = 0.2
_MOST_WORDS = 200


def create_app(folder: LoopFolder, traffic: OpenTraffic) -> Starlette:
    """The web application: the page, its pictures, and single searches in both orders."""
    headers = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}

    async def page(_: Request) -> Response:
        return FileResponse(folder.page, media_type="text/html", headers=headers)

    async def live(_: Request) -> Response:
        return FileResponse(folder.path / LIVE, media_type="text/javascript", headers=headers)

    async def search(request: Request) -> Response:
        given = request.query_params
        words, shopper = given.get("words", "").strip()[:_MOST_WORDS], given.get("shopper", "")
        shoppers = len(traffic.tables.shoppers)
        if not words or not shopper.isdecimal() or int(shopper) >= shoppers:
            error = f"shopper and words: got {shopper!r} and {words!r}, want 0 to {shoppers - 1}"
            return JSONResponse({"error": f"{error}, and words to search for"}, 400)
        try:
            found = await run_in_threadpool(search_both, traffic, int(shopper), words)
        except RerankError as error:
            return JSONResponse({"error": str(error)}, 503)
        return JSONResponse(found, headers={"cache-control": "no-store"})

    return Starlette(
        routes=[
            Route("/", page),
            Route(f"/{LIVE}", live),
            Route("/api/search", search),
            Mount("/pictures", StaticFiles(directory=folder.pictures, check_dir=False)),
        ]
    )


def serve_loop_page(
    folder: LoopFolder,
    traffic: OpenTraffic,
    listener: socket.socket,
    *,
    announce: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        folder: Where page and pictures lie.
        traffic: Searches both ways.
        listener: From `taken_port`.
        announce: Told the page's address.
    """

    async def run() -> None:
        page = uvicorn.Server(
            uvicorn.Config(
                create_app(folder, traffic),
                log_level="warning",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=2,
            )
        )
        telling = asyncio.create_task(tell(page))
        try:
            await page.serve(sockets=[listener])
        finally:
            telling.cancel()

    async def tell(page: uvicorn.Server) -> None:
        while not page.started:
            await asyncio.sleep(_POLL_S)
        announce(f"http://{HOST}:{listener.getsockname()[1]}  (Ctrl-C ends everything)")

    with contextlib.suppress(Stopped):  # the way it is meant to end
        asyncio.run(run())
    announce("stopped; nothing is left running")

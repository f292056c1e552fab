"""The gRPC server: the rerank service beside health and reflection, started and stopped."""

from __future__ import annotations

import asyncio
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
from grpc_health.v1 import (  # type: ignore[import-untyped]
    health,
    health_pb2,
    health_pb2_grpc,
)
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from rerank_server.contract.errors import RerankError
from rerank_server.interceptors import AccessLogInterceptor, ErrorInterceptor
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.rerank_pb2_grpc import add_RerankServiceServicer_to_server
from rerank_server.reranker import Reranker
from rerank_server.service import RerankService

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["RerankService"].full_name
_LOG = logging.getLogger(__name__)


class AddressError(RerankError):
    """An address that the server cannot listen on."""


class RerankServer:
    """Serves one reranker; `start` returns when it listens, `stop` when it is done."""

    def __init__(
        self, reranker: Reranker, *, workers: int, timeout: timedelta, max_message_bytes: int
    ) -> None:
        """Prepare to serve; nothing listens yet. Needs a running event loop.

        Args:
            reranker: What to serve.
            workers: Pages reranked at the same time.
            timeout: Longest time for one page.
            max_message_bytes: Largest message accepted and sent.
        """
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="rerank")
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=(AccessLogInterceptor(), ErrorInterceptor()),
            options=(
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
                # otherwise a second server takes the same port and half of the calls
                ("grpc.so_reuseport", 0),
            ),
        )
        service = RerankService(reranker, self._workers, timeout=timeout)
        add_RerankServiceServicer_to_server(service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )
        self._stopped = False

    async def start(self, host: str, port: int) -> int:
        """Listen and return the port; 0 takes a free one.

        Raises:
            AddressError: When the port is taken or the address is not of this machine.
        """
        address = f"{host}:{port}"
        try:
            bound = self._server.add_insecure_port(address)
        except RuntimeError as error:
            self._workers.shutdown()
            raise AddressError(
                f"{address}: got an address that is taken or not of this machine, want a free one"
            ) from error
        await self._server.start()
        for name in ("", SERVICE_NAME):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return bound

    async def stop(self, grace: timedelta) -> None:
        """Tell health checks, refuse new calls, let calls in flight finish within `grace`."""
        if self._stopped:
            return
        self._stopped = True
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace.total_seconds())
        self._workers.shutdown(wait=False, cancel_futures=True)


async def serve(
    reranker: Reranker,
    *,
    host: str,
    port: int,
    workers: int,
    timeout: timedelta,
    stop_grace: timedelta,
    max_message_bytes: int,
) -> None:
    """Serve until SIGTERM or SIGINT, then stop gracefully; arguments as in `Settings`.

    Raises:
        AddressError: When the server cannot listen.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = RerankServer(
        reranker, workers=workers, timeout=timeout, max_message_bytes=max_message_bytes
    )
    bound = await server.start(host, port)
    fields = {
        "address": f"{host}:{bound}",
        "bundle_id": reranker.bundle.manifest.bundle_id,
        "products": reranker.products.size,
        "provider": reranker.scorer.provider,
        "scorer_threads": reranker.scorer.threads,
        "workers": workers,
    }
    _LOG.info("serving", extra={"fields": fields})
    await stopping.wait()
    _LOG.info("stopping")
    await server.stop(stop_grace)
    _LOG.info("stopped")

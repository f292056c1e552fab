"""The gRPC server: the rerank service beside health and reflection, started and stopped."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import (  # type: ignore[import-untyped]
    health,
    health_pb2,
    health_pb2_grpc,
)
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from rerank_server.admission import Admission
from rerank_server.brake import Brake, BrakeInterceptor
from rerank_server.bundle_store import BundleStore
from rerank_server.contract.errors import RerankError
from rerank_server.doors import Doors
from rerank_server.interceptors import (
    ErrorInterceptor,
    ObservingInterceptor,
    TokenInterceptor,
)
from rerank_server.metrics import Metrics, Serving, Trying
from rerank_server.pb import admin_pb2
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.admin_pb2_grpc import add_AdminServiceServicer_to_server
from rerank_server.pb.rerank_pb2_grpc import add_RerankServiceServicer_to_server
from rerank_server.probes import BEAT_EVERY_S, Probes
from rerank_server.processes.part import Part
from rerank_server.reranker import Reranker
from rerank_server.service import AdminService, RerankService
from rerank_server.serving_limits import ServingLimits
from rerank_server.tls import server_credentials
from rerank_server.version import server_version

if TYPE_CHECKING:
    from rerank_server.http_door import HttpDoor

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["RerankService"].full_name
ADMIN_SERVICE_NAME = admin_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name
# Names of the health service: takes calls; is alive and has started.
READINESS_NAMES = ("", SERVICE_NAME, "readiness")
LIVENESS_NAMES = ("liveness", "startup")
# The event loop waits this long for a worker's Python, a tenth of the default: past saturation it
# answers calls that would otherwise pass their deadline unread.
_SWITCH_INTERVAL_S = 0.0005
_LOG = logging.getLogger(__name__)


class AddressError(RerankError):
    """An address that the server cannot listen on."""


class HttpExtraError(RerankError):
    """HTTP was asked for, and what it needs is not installed."""


class RerankServer:
    """Serves one reranker; `start` returns when it listens, `stop` when it is done."""

    def __init__(
        self,
        reranker: Reranker | BundleStore[Reranker],
        *,
        workers: int,
        timeout: timedelta,
        max_message_bytes: int,
        doors: Doors | None = None,
        limits: ServingLimits | None = None,
        part: Part | None = None,
    ) -> None:
        """Prepare to serve; nothing listens yet. Needs a running event loop.

        Args:
            reranker: What to serve, or what holds it and may change it meanwhile.
            workers: Pages reranked at the same time.
            timeout: Longest time for one page.
            max_message_bytes: Largest message accepted and sent.
            doors: What stands around the service; None leaves all of it off.
            limits: What may wait or be open; None means the defaults.
            part: This process as one of several behind the port; None when it is the only one.
        """
        limits = self._limits = limits or ServingLimits()
        self.doors = doors or Doors()
        self.observer = self.doors.observer()
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="rerank")
        self._admission = Admission(limits.admission(workers), asyncio.get_running_loop().time)
        self._brake = Brake()
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=self._interceptors(),
            options=(
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
                # unless wanted, a second server takes the same port and half of the calls
                ("grpc.so_reuseport", int(part is not None)),
                *limits.channel_options(),
            ),
            maximum_concurrent_rpcs=limits.calls,
        )
        self._bundles = (
            reranker if isinstance(reranker, BundleStore) else BundleStore(reranker, Reranker.open)
        )
        self.service = RerankService(
            self._bundles,
            self._workers,
            self._admission,
            timeout=timeout,
            page_done=self._brake.page_done,
        )
        add_RerankServiceServicer_to_server(self.service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        services = [SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME]
        if self.doors.admin:
            admin = AdminService(self._bundles, self.doors.changes, part)
            add_AdminServiceServicer_to_server(admin, self._server)
            services.append(ADMIN_SERVICE_NAME)
        reflection.enable_server_reflection(services, self._server)
        if self.doors.metrics is not None:
            self._count_what_is_served(self.doors.metrics)
        self._max_message_bytes = max_message_bytes
        self._http: HttpDoor | None = None
        self._reuse_port = part is not None
        self._stopped = False

    async def start(self, host: str, port: int) -> int:
        """Listen and return the port; 0 takes a free one.

        Raises:
            AddressError: When the port is taken or the address is not of this machine.
            TlsError: When the certificate or its key cannot be used.
        """
        address = f"{host}:{port}"
        tls = self.doors.tls
        try:
            if tls is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, server_credentials(tls))
        except RuntimeError as error:
            self._workers.shutdown()
            raise AddressError(
                f"{address}: got an address that is taken or not of this machine, want a free one"
            ) from error
        await self._server.start()
        for name in (*READINESS_NAMES, *LIVENESS_NAMES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self.doors.probes.started = self.doors.probes.ready = True
        return bound

    async def start_http(self, host: str, port: int) -> int:
        """Answer HTTP as well and return the port; 0 takes a free one.

        Raises:
            HttpExtraError: When the extra `http` is not installed.
            HttpAddressError: When the port is taken or the address is not of this machine.
            TlsError: When the certificate or its key cannot be used.
        """
        try:
            # most servers need neither these modules nor what they import
            from rerank_server.http_api import HttpApi  # noqa: PLC0415
            from rerank_server.http_door import HttpDoor  # noqa: PLC0415
        except ImportError as error:
            raise HttpExtraError(
                f"http_port: got no module {error.name!r}, want `pip install 'crossrank[http]'`"
            ) from error
        api = HttpApi(
            self.service,
            self.observer,
            self.doors.gate,
            bundle_id=lambda: self._bundles.bundles.current.bundle.manifest.bundle_id,
            max_body_bytes=self._max_message_bytes,
        )
        self._http = HttpDoor(api.app(), self.doors.tls)
        return await self._http.start(host, port, reuse_port=self._reuse_port)

    async def stop(self, grace: timedelta) -> None:
        """Tell health checks, refuse new calls, let calls in flight finish within `grace`."""
        if self._stopped:
            return
        self._stopped = True
        self.doors.probes.ready = False
        for name in READINESS_NAMES:  # a stopping server is alive: nobody has to kill it
            await self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        stops = [self._server.stop(grace.total_seconds())]
        if self._http is not None:
            stops.append(self._http.stop(grace))
        await asyncio.gather(*stops)
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._bundles.close()

    def _count_what_is_served(self, metrics: Metrics) -> None:
        """Tell Prometheus the bundle and the products of the moment it asks."""
        version, live = server_version(), self.doors.changes

        def serving() -> Serving:
            reranker = self._bundles.bundles.current
            manifest = reranker.bundle.manifest
            return Serving(
                bundle_id=manifest.bundle_id,
                bundle_created=manifest.created,
                server_version=version,
                provider=reranker.scorer.provider,
                products=reranker.products.size,
                product_change=None if live is None else live.shown,
            )

        def trying() -> Trying | None:
            tried = self._bundles.bundles.challenger
            return None if tried is None else Trying(tried.bundle_id, tried.figures())

        metrics.serving, metrics.trying = serving, trying
        metrics.queued_candidates = lambda: self._admission.queued_candidates

    def _interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """Return what stands around each call, outermost first."""
        chain: list[grpc.aio.ServerInterceptor] = [
            BrakeInterceptor(self._brake, self._admission, self._limits.unread_calls),
            ObservingInterceptor(self.observer),
            ErrorInterceptor(),
        ]
        if self.doors.gate is not None or not self.doors.local:
            chain.append(TokenInterceptor(self.doors.gate, self.doors.metrics))
        return chain


async def serve(  # noqa: PLR0913 - the settings, one by one
    bundles: BundleStore[Reranker],
    *,
    host: str,
    port: int,
    workers: int,
    timeout: timedelta,
    stop_grace: timedelta,
    max_message_bytes: int,
    doors: Doors | None = None,
    limits: ServingLimits | None = None,
    part: Part | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then stop gracefully; arguments as in `Settings`.

    As a `part` of several processes it stops when their supervisor is gone, too.

    Raises:
        AddressError: When the server cannot listen.
        TlsError: When the certificate or its key cannot be used.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = RerankServer(
        bundles,
        workers=workers,
        timeout=timeout,
        max_message_bytes=max_message_bytes,
        doors=doors,
        limits=limits,
        part=part,
    )
    if part is not None:
        metrics = server.doors.metrics
        await part.join(None if metrics is None else metrics.registry(), stopping)
    bound = await server.start(host, port)
    reranker = bundles.bundles.current
    fields = {
        "address": f"{host}:{bound}",
        "bundle_id": reranker.bundle.manifest.bundle_id,
        "products": reranker.products.size,
        "provider": reranker.scorer.provider,
        "scorer_threads": reranker.scorer.threads,
        "workers": workers,
    }
    if server.doors.http_port is not None:
        http_bound = await server.start_http(host, server.doors.http_port)
        fields["http_address"] = f"{host}:{http_bound}"
    if part is not None:
        await part.report(fields)
    _LOG.info("serving" if part is None else "process serving", extra={"fields": fields})
    beating = asyncio.create_task(_beat(server.doors.probes))
    await stopping.wait()
    _LOG.info("stopping")
    await server.stop(stop_grace)
    beating.cancel()
    _LOG.info("stopped")


async def _beat(probes: Probes) -> None:
    """Say that the event loop turns, until cancelled."""
    while True:
        probes.beat()
        await asyncio.sleep(BEAT_EVERY_S)

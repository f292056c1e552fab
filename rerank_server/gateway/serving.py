"""Starts and stops the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from prometheus_client.registry import Collector

from rerank_server.access_log import read_shopper_key
from rerank_server.gateway.errors import EventsError, GatewaySettingsError
from rerank_server.gateway.events import EventSettings, ShopperEvents
from rerank_server.gateway.gateway import Gateway
from rerank_server.gateway.gateway_metrics import GatewayMetrics
from rerank_server.gateway.kept_orders import KeptOrders
from rerank_server.gateway.ranking import open_ranker
from rerank_server.gateway.record import SearchRecorder
from rerank_server.gateway.reranking import Reranking
from rerank_server.gateway.rules import IndexRules, read_rules
from rerank_server.gateway.searches import Searches
from rerank_server.gateway.settings import GatewaySettings
from rerank_server.gateway.upstream import Upstream, UpstreamSettings
from rerank_server.probes import BEAT_EVERY_S, Probes, ProbeServer
from rerank_server.tls import TlsFiles, check_address, server_context

_BACKLOG = 1_024
# Longer than a load balancer keeps its own: it closes first.
_KEEP_ALIVE_S = 75.0
# Much longer than a search waits: what comes late is kept for the shopper's next search.
_LONGEST_EVENTS_READ_S = 10.0
_MAX_LINE_BYTES = 16 * 1024
_MAX_HEADER_BYTES = 64 * 1024
_LOG = logging.getLogger(__name__)


class RunningGateway:
    """A gateway that listens.

    Attributes:
        port: Where.
        metrics: What it counts.
    """

    def __init__(self, port: int, metrics: GatewayMetrics) -> None:
        self.port = port
        self.metrics = metrics


async def serve_gateway(
    settings: GatewaySettings,
    recorder: SearchRecorder | None = None,
    collectors: Sequence[Collector] = (),
) -> None:
    """Serve until SIGTERM or SIGINT, then let requests in flight finish.

    Args:
        settings: Of the gateway.
        recorder: Takes the records of searches; None: nobody does.
        collectors: Metrics that are shown beside the gateway's own.

    Raises:
        RerankError: When a setting cannot be used or the address is taken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running_gateway(settings, recorder, collectors):
        await stop.wait()
        _LOG.info("stopping")


@asynccontextmanager
async def running_gateway(
    settings: GatewaySettings,
    recorder: SearchRecorder | None = None,
    collectors: Sequence[Collector] = (),
) -> AsyncIterator[RunningGateway]:
    """Serve for the length of a `with` block.

    Raises:
        RerankError: As `serve_gateway`.
    """
    tls = _open_tls(settings)
    rules = read_rules(settings.rules, settings.window)
    key = None if settings.shopper_key is None else read_shopper_key(settings.shopper_key)
    probes, metrics = Probes(), GatewayMetrics()
    with _probe_server(settings, probes, metrics, collectors):
        upstream = Upstream(
            UpstreamSettings(settings.nodes, settings.elasticsearch_ca, settings.connect_timeout_ms)
        )
        ranker = open_ranker(
            settings.reranker,
            authority=settings.reranker_ca,
            token=_read_secret("reranker_token", settings.reranker_token),
            max_calls=settings.max_rerank_calls,
            fair_timeout_ms=settings.rerank_timeout_ms,
        )
        events = _open_events(settings, upstream, key)
        reranking = Reranking(
            ranker,
            events,
            timeout_ms=settings.rerank_timeout_ms,
            key=key,
            kept=KeptOrders(settings.keep_pages_s),
        )
        gateway = _open_gateway(settings, upstream, reranking, rules, metrics, recorder)
        ranker.watch_status()
        beating = asyncio.create_task(_beat(probes))
        try:
            async with _listening(settings, gateway, tls, probes) as port:
                yield RunningGateway(port, metrics)
        finally:
            beating.cancel()
            await events.close()
            await ranker.close()
            await upstream.close()


def _open_gateway(
    settings: GatewaySettings,
    upstream: Upstream,
    reranking: Reranking,
    rules: IndexRules,
    metrics: GatewayMetrics,
    recorder: SearchRecorder | None,
) -> Gateway:
    searches = Searches(
        upstream,
        reranking,
        rules,
        metrics,
        recorder=recorder,
        timeout_ms=settings.search_timeout_ms,
        max_body_bytes=settings.max_body_bytes,
    )
    return Gateway(upstream, searches, metrics, max_body_bytes=settings.max_body_bytes)


@asynccontextmanager
async def _listening(
    settings: GatewaySettings, gateway: Gateway, tls: ssl.SSLContext | None, probes: Probes
) -> AsyncIterator[int]:
    name = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        listener = socket.create_server((name, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise GatewaySettingsError(
            f"{settings.host}:{settings.port}: got {error.strerror or error}, want a free address"
            " of this machine"
        ) from error
    server = web.Server(
        gateway.handle,
        # a caller that goes away cancels its search in Elasticsearch too
        handler_cancellation=True,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=_KEEP_ALIVE_S,
        max_line_size=_MAX_LINE_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
    )
    loop = asyncio.get_running_loop()
    accepting = await loop.create_server(server, sock=listener, ssl=tls, backlog=_BACKLOG)
    port = int(listener.getsockname()[1])
    probes.started = probes.ready = True
    fields = {"address": f"{settings.host}:{port}", "elasticsearch": settings.elasticsearch}
    _LOG.info("gateway listens", extra={"fields": fields})
    try:
        yield port
    finally:
        probes.ready = False
        accepting.close()
        server.pre_shutdown()
        await server.shutdown(settings.stop_grace.total_seconds())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(accepting.wait_closed(), 1.0)


def _open_tls(settings: GatewaySettings) -> ssl.SSLContext | None:
    tls = None
    if settings.tls_certificate is not None and settings.tls_key is not None:
        tls = server_context(TlsFiles(settings.tls_certificate, settings.tls_key))
    insecure = settings.insecure_listen
    check_address("host", settings.host, encrypted=tls is not None, insecure_listen=insecure)
    if settings.metrics_port >= 0:
        host = settings.metrics_host
        check_address("metrics_host", host, encrypted=False, insecure_listen=insecure)
    return tls


def _open_events(settings: GatewaySettings, upstream: Upstream, key: bytes | None) -> ShopperEvents:
    own = _read_secret("events_authorization", settings.events_authorization)

    async def search(index: str, body: bytes, authorization: str | None) -> tuple[int, bytes]:
        headers = CIMultiDict({"Content-Type": "application/json"})
        if sent := own or authorization:
            headers["Authorization"] = sent
        target = f"/{index}/_search?ignore_unavailable=true&filter_path=hits.hits._source"
        try:
            async with (
                asyncio.timeout(_LONGEST_EVENTS_READ_S),
                upstream.send("POST", target, headers, body, again=True) as answer,
            ):
                return answer.status, await answer.content.read()
        except (TimeoutError, aiohttp.ClientError) as error:
            raise EventsError(f"events: got {type(error).__name__}, want an answer") from error

    return ShopperEvents(
        search,
        EventSettings(
            index=settings.events_index,
            shopper_field=settings.events_field,
            limit=settings.events_limit,
            timeout_ms=settings.events_timeout_ms,
            keep_s=settings.events_keep_s,
            keep_shoppers=settings.events_shoppers,
            key=key if settings.events_hashed else None,
        ),
    )


def _read_secret(name: str, path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        secret = path.read_text().strip()
    except (OSError, ValueError) as error:
        raise GatewaySettingsError(f"{name}: got {error}, want a text file") from error
    if not secret or "\n" in secret:
        raise GatewaySettingsError(f"{name}: got {path} without one line, want one")
    return secret


@contextmanager
def _probe_server(
    settings: GatewaySettings,
    probes: Probes,
    metrics: GatewayMetrics,
    collectors: Sequence[Collector],
) -> Generator[None]:
    with ExitStack() as stack:
        if settings.metrics_port >= 0:
            host = settings.metrics_host
            registry = metrics.registry()
            for collector in collectors:
                registry.register(collector)
            server = ProbeServer(host, settings.metrics_port, probes, registry)
            stack.callback(server.close)
            fields = {"address": f"{host}:{server.port}"}
            _LOG.info("metrics and probes", extra={"fields": fields})
        yield


async def _beat(probes: Probes) -> None:
    while True:
        probes.beat()
        await asyncio.sleep(BEAT_EVERY_S)

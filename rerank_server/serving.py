"""Opens what the settings name and serves it until a signal comes."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from rerank_server.access_log import AccessLog, read_shopper_key
from rerank_server.batcher import share_calls
from rerank_server.bundle_store import BundleStore
from rerank_server.doors import Doors
from rerank_server.live_products import LiveProducts
from rerank_server.metrics import MeasuredScorer, Metrics
from rerank_server.policy_file import PolicyFile
from rerank_server.probes import ProbeServer
from rerank_server.processes.part import Part
from rerank_server.processes.supervisor import supervise
from rerank_server.product_store import ProductStore
from rerank_server.reranker import Reranker
from rerank_server.server import serve
from rerank_server.serving_limits import ServingLimits
from rerank_server.settings import Settings, SettingsError
from rerank_server.tls import TlsFiles, check_address, is_loopback, server_context
from rerank_server.tokens import TokenGate

if TYPE_CHECKING:
    from rerank_server.spans import SpanExport

_LOG = logging.getLogger(__name__)


def serve_settings(settings: Settings, part: Part | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then stop gracefully.

    Args:
        settings: What to serve and how.
        part: This process as one of several; None starts as many as the settings say.

    Raises:
        RerankError: When something that the settings name is broken or not safe.
    """
    # SIGHUP reloads a policy; where there is none, or none yet, it must not end the process
    signal.signal(signal.SIGHUP, _do_nothing)
    if part is None and settings.processes > 1:
        supervise(settings)
        return
    doors = _open_doors(settings)
    policy = None if settings.policy is None else PolicyFile(settings.policy)
    live = doors.changes
    with _seen_from_outside(settings, doors, alone=part is None):

        def open_reranker(bundle: Path, products: Path) -> Reranker:
            reranker = Reranker.open(
                bundle, products, threads=settings.scorer_thread_count, device=settings.device
            )
            if doors.metrics is not None:
                reranker.scorer = MeasuredScorer(reranker.scorer, doors.metrics)
            if live is not None:
                live.attach(reranker, products)
            share_calls(reranker)
            if policy is not None:
                policy.attach(reranker)
            return reranker

        bundles = BundleStore(open_reranker(settings.bundle, settings.products), open_reranker)
        if live is not None:
            live.follow(lambda held, store: _exchange(bundles, policy, held, store))
        if part is not None:
            part.catch_up(bundles, live)
        serving = serve(
            bundles,
            host=settings.host,
            port=settings.port,
            workers=settings.worker_count,
            timeout=settings.timeout,
            stop_grace=settings.stop_grace,
            max_message_bytes=settings.max_message_bytes,
            doors=doors,
            limits=ServingLimits(unread_calls=settings.unread_calls),
            part=part,
        )
        # gRPC wakes the loop several times a call, and each costs less there: a page takes a
        # twelfth less time than on the loop of asyncio, at one caller and 10 or 100 candidates
        uvloop.run(_with_policy_watched(serving, policy))


def _do_nothing(_number: int, _frame: object) -> None:
    """Take a signal that says nothing to this process."""


async def _with_policy_watched(
    serving: Coroutine[None, None, None], policy: PolicyFile | None
) -> None:
    """Serve, and reload the policy when its file changes or SIGHUP comes."""
    if policy is None:
        await serving
        return
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    watching = asyncio.create_task(policy.watch(asked))
    try:
        await serving
    finally:
        watching.cancel()


def _exchange(
    bundles: BundleStore[Reranker], policy: PolicyFile | None, held: Reranker, store: ProductStore
) -> Reranker | None:
    """Serve the products of `store` in place of those of `held`, between two requests."""
    other = held.with_products(store)
    if policy is not None:
        policy.attach(other)
    return other if bundles.exchange(held, other) else None


def _open_doors(settings: Settings) -> Doors:
    """Read what the settings name and refuse what is not safe, before anything is loaded."""
    tls = None
    if settings.tls_certificate is not None and settings.tls_key is not None:
        tls = TlsFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
        server_context(tls)
    insecure = settings.insecure_listen
    check_address("host", settings.host, encrypted=tls is not None, insecure_listen=insecure)
    measured = settings.metrics_port >= 0
    if measured:
        check_address(
            "metrics_host", settings.metrics_host, encrypted=False, insecure_listen=insecure
        )
    gate = None if settings.tokens is None else TokenGate(settings.tokens)
    if gate is not None and tls is None and not is_loopback(settings.host):
        _LOG.warning("tokens travel in clear text: the port has no TLS")
    key = None if settings.shopper_key is None else read_shopper_key(settings.shopper_key)
    return Doors(
        tls=tls,
        gate=gate,
        local=is_loopback(settings.host),
        access_log=AccessLog(settings.access_log_share, key),
        metrics=Metrics() if measured else None,
        spans=_open_spans(settings.otlp_endpoint),
        admin=settings.admin,
        changes=None if settings.changes is None else LiveProducts(settings.changes),
        http_port=None if settings.http_port < 0 else settings.http_port,
    )


def _open_spans(endpoint: str | None) -> SpanExport | None:
    if endpoint is None:
        return None
    try:
        from rerank_server.spans import SpanExport  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise SettingsError(
            f"otlp_endpoint: got no module {error.name!r}, want `pip install 'crossrank[otlp]'`"
        ) from error
    return SpanExport(endpoint)


@contextmanager
def _seen_from_outside(settings: Settings, doors: Doors, *, alone: bool) -> Generator[None]:
    """Answer metrics and probes if `alone`, and send spans, while the block runs."""
    with ExitStack() as stack:
        if doors.spans is not None:
            stack.callback(doors.spans.close)
        if doors.changes is not None:
            stack.callback(doors.changes.close)
        if doors.metrics is not None and alone:
            host, registry = settings.metrics_host, doors.metrics.registry()
            server = ProbeServer(host, settings.metrics_port, doors.probes, registry)
            stack.callback(server.close)
            fields = {"address": f"{host}:{server.port}"}
            _LOG.info("metrics and probes", extra={"fields": fields})
        yield

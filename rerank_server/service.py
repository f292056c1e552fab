"""The services of the protos: convert, rerank within the deadline or change bundles, convert."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from time import monotonic, perf_counter_ns
from typing import Any, TypeAlias

import grpc

from rerank_server.admission import Admission, Refusal
from rerank_server.bundle_store import Bundles, BundleStore
from rerank_server.contract.errors import RerankError
from rerank_server.convert import (
    bundles_to_pb,
    challenger_to_pb,
    page_from_pb,
    products_from_pb,
    response_to_pb,
    store_to_pb,
    turned_away_to_pb,
)
from rerank_server.live_products import LiveProducts
from rerank_server.page import (
    MAX_CANDIDATES,
    DegradedReason,
    RankedPage,
    SearchPage,
    Timings,
)
from rerank_server.pb import admin_pb2
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.admin_pb2_grpc import AdminServiceServicer
from rerank_server.pb.rerank_pb2_grpc import RerankServiceServicer
from rerank_server.processes.steps import FOLLOW_TIMEOUT_S, OwnSteps, ServerSteps, Step
from rerank_server.product_changes import NoChangesError
from rerank_server.reranker import Reranker
from rerank_server.tokens import CALLER
from rerank_server.version import server_version

# What is kept back of the client's deadline to send the answer: a tenth of it, within bounds.
_ANSWER_SHARE = 0.1
_ANSWER_MIN_S = 0.002
_ANSWER_MAX_S = 0.02
_LOG = logging.getLogger(__name__)

# A text, because the class is generic in the stubs only.
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class RerankService(RerankServiceServicer):
    """Answers every valid page: reranked in time, or in retrieval order and degraded."""

    def __init__(
        self,
        bundles: BundleStore[Reranker],
        workers: ThreadPoolExecutor,
        admission: Admission,
        *,
        timeout: timedelta,
        page_done: Callable[[], None] | None = None,
    ) -> None:
        """Serve what `bundles` holds.

        Args:
            bundles: Says which bundle answers a page.
            workers: Where pages are reranked.
            admission: Says which page is next; its clock is the event loop's.
            timeout: Longest time for one page, where the client's deadline is not shorter.
            page_done: Called from the worker's thread when it is done with a page.
        """
        self._bundles = bundles
        self._workers = workers
        self._admission = admission
        self._timeout_s = timeout.total_seconds()
        self._page_done = page_done
        self._started = monotonic()
        self._version = server_version()

    async def Rerank(  # noqa: N802 - gRPC's name
        self, request: pb.RerankRequest, context: _Context
    ) -> pb.RerankResponse:
        """Rerank one page."""
        arrived = perf_counter_ns()
        size = len(request.candidate_ids)
        if self._admission.is_hopeless(size, context.time_remaining()):
            reranker = self._bundles.bundles.current
            if reranker.hides_nothing and 1 <= size <= MAX_CANDIDATES:
                return turned_away_to_pb(
                    request, reranker.bundle.manifest.bundle_id, version=self._version
                )
        return await self.answer(page_from_pb(request), context, arrived)

    async def answer(self, page: SearchPage, context: _Context, arrived: int) -> pb.RerankResponse:
        """Rerank one page that arrived at `arrived` on the clock of `perf_counter_ns`."""
        bundles = self._bundles.bundles
        reranker = bundles.choose(page.shopper_id)
        ranked, queue_us = await self._rerank_in_time(page, reranker, context, arrived)
        if bundles.challenger is not None:
            self._watch_challenger(bundles, reranker, page, ranked)
        total_us = (perf_counter_ns() - arrived) // 1_000
        return response_to_pb(ranked, queue_us=queue_us, total_us=total_us, version=self._version)

    async def GetServerStatus(  # noqa: N802 - gRPC's name
        self,
        request: pb.GetServerStatusRequest,  # noqa: ARG002 - it has no fields
        context: _Context,  # noqa: ARG002 - gRPC passes it
    ) -> pb.GetServerStatusResponse:
        """Say what this server serves."""
        bundles = self._bundles.bundles
        reranker = bundles.current
        manifest = reranker.bundle.manifest
        schema = manifest.schema
        provider = reranker.scorer.provider
        return pb.GetServerStatusResponse(
            bundle_id=manifest.bundle_id,
            bundle_created=manifest.created,
            server_version=self._version,
            provider=provider,
            device="cpu" if provider == "CPUExecutionProvider" else "cuda",
            scorer_threads=reranker.scorer.threads,
            products=reranker.products.size,
            as_of_day=reranker.products.table.as_of_day,
            uptime_s=monotonic() - self._started,
            objectives=schema.objectives,
            categories=schema.categories[1:],
            surfaces=schema.surfaces,
            signals=[signal.name for signal in schema.signals],
            event_kinds=schema.event_kinds,
            figures=manifest.figures,
            policy_version=reranker.policy.version if reranker.policy else "",
            store=store_to_pb(reranker.products),
            challenger=challenger_to_pb(bundles.challenger) if bundles.challenger else None,
        )

    async def _rerank_in_time(
        self, page: SearchPage, reranker: Reranker, context: _Context, arrived: int
    ) -> tuple[RankedPage, int]:
        """Return the ranked page and the microseconds it waited for a worker."""
        limit_s = _limit_s(self._timeout_s, context)
        late = partial(_too_late, page, reranker, limit_s)
        if limit_s <= 0:
            return late(), 0
        deadline = asyncio.get_running_loop().time() + limit_s
        caller = CALLER.get() or _peer_host(context)
        refusal = await self._admission.enter(page.size, caller, deadline)
        if refusal is Refusal.FULL:
            return _overloaded(page, reranker), 0
        if refusal is Refusal.LATE:
            return late(), 0
        work = _Work(page, reranker)
        future = self._submit(work)
        try:
            async with asyncio.timeout_at(deadline):
                # a page still waiting for a worker is cancelled and never scored
                ranked = await asyncio.wrap_future(future)
        except TimeoutError:
            return late(), 0
        except RerankError:
            raise
        except Exception:  # noqa: BLE001 - whatever fails, the shopper gets retrieval order
            _LOG.exception("reranking failed")
            return _failed(page, reranker), 0
        return ranked, (work.began - arrived) // 1_000

    def _submit(self, work: _Work) -> Future[RankedPage]:
        """Begin a page; its place is free again when its worker is, however long that takes."""
        loop = asyncio.get_running_loop()
        began = loop.time()

        def leave(future: Future[RankedPage]) -> None:
            if self._page_done is not None:
                self._page_done()
            # the time of an explained page says nothing about the others'
            plain = not (future.cancelled() or work.page.explain)
            took_s = loop.time() - began if plain else None
            try:
                loop.call_soon_threadsafe(self._admission.leave, work.page.size, took_s)
            except RuntimeError:  # the loop is closed: the server has stopped
                return

        future = self._workers.submit(work.run)
        future.add_done_callback(leave)
        return future

    def _watch_challenger(
        self, bundles: Bundles[Reranker], reranker: Reranker, page: SearchPage, ranked: RankedPage
    ) -> None:
        tried = bundles.challenger
        if tried is not None and reranker is tried.served:
            tried.report.count_canary(ranked)
        else:
            self._bundles.shadow(page, ranked, bundles)


class AdminService(AdminServiceServicer):
    """Changes the bundles and the products of a running server."""

    def __init__(
        self,
        bundles: BundleStore[Reranker],
        changes: LiveProducts | None = None,
        steps: ServerSteps | None = None,
    ) -> None:
        """Change bundles by `steps`, and products where `changes` takes them.

        Args:
            bundles: What this process holds.
            changes: None takes no changes of products.
            steps: Change every process; None changes this one alone.
        """
        self._bundles = bundles
        self._changes = changes
        self._steps = steps or OwnSteps(bundles)

    async def UpsertProducts(  # noqa: N802 - gRPC's name
        self,
        request: admin_pb2.UpsertProductsRequest,
        context: _Context,
    ) -> admin_pb2.UpsertProductsResponse:
        """Put products into the store."""
        live, bundle = self._live_products(), self._bundles.bundles.current.bundle
        records = products_from_pb(request, bundle.schema)
        change = await asyncio.to_thread(live.upsert, records, bundle)
        behind = await self._behind(live, change, context)
        products = self._bundles.bundles.current.products.size
        return admin_pb2.UpsertProductsResponse(
            change=change, products=products, processes_behind=behind
        )

    async def DeleteProducts(  # noqa: N802 - gRPC's name
        self,
        request: admin_pb2.DeleteProductsRequest,
        context: _Context,
    ) -> admin_pb2.DeleteProductsResponse:
        """Take products out of the store."""
        live = self._live_products()
        change = await asyncio.to_thread(live.delete, list(request.product_ids))
        behind = await self._behind(live, change, context)
        products = self._bundles.bundles.current.products.size
        return admin_pb2.DeleteProductsResponse(
            change=change, products=products, processes_behind=behind
        )

    async def _behind(self, live: LiveProducts, change: int, context: _Context) -> int:
        """Return how many processes of the server do not show a change in time."""
        others = await self._steps.follow(change, _limit_s(FOLLOW_TIMEOUT_S, context))
        return others + (live.shown < change)

    def _live_products(self) -> LiveProducts:
        if self._changes is None:
            raise NoChangesError("changes: got a server that takes none, want one with --changes")
        return self._changes

    async def LoadBundle(  # noqa: N802 - gRPC's name
        self,
        request: admin_pb2.LoadBundleRequest,
        context: _Context,  # noqa: ARG002 - gRPC passes it
    ) -> admin_pb2.LoadBundleResponse:
        """Load a challenger."""
        folders = {"bundle_path": request.bundle_path, "products_path": request.products_path}
        return admin_pb2.LoadBundleResponse(bundles=await self._take(Step("load", folders)))

    async def DivertPages(  # noqa: N802 - gRPC's name
        self,
        request: admin_pb2.DivertPagesRequest,
        context: _Context,  # noqa: ARG002 - gRPC passes it
    ) -> admin_pb2.DivertPagesResponse:
        """Give the challenger pages."""
        given = {"canary_percent": request.canary_percent, "shadow": request.shadow}
        return admin_pb2.DivertPagesResponse(bundles=await self._take(Step("divert", given)))

    async def PromoteBundle(  # noqa: N802 - gRPC's name
        self,
        request: admin_pb2.PromoteBundleRequest,  # noqa: ARG002 - it has no fields
        context: _Context,  # noqa: ARG002 - gRPC passes it
    ) -> admin_pb2.PromoteBundleResponse:
        """Let the challenger answer every page."""
        return admin_pb2.PromoteBundleResponse(bundles=await self._take(Step("promote", {})))

    async def RollBackBundle(  # noqa: N802 - gRPC's name
        self,
        request: admin_pb2.RollBackBundleRequest,  # noqa: ARG002 - it has no fields
        context: _Context,  # noqa: ARG002 - gRPC passes it
    ) -> admin_pb2.RollBackBundleResponse:
        """Undo the last step."""
        return admin_pb2.RollBackBundleResponse(bundles=await self._take(Step("roll_back", {})))

    async def _take(self, step: Step) -> admin_pb2.HeldBundles:
        taken = await self._steps.take(step)
        return bundles_to_pb(taken.bundles, restarted=taken.restarted)


class _Work:
    """One page for a worker."""

    def __init__(self, page: SearchPage, reranker: Reranker) -> None:
        self.page = page
        self.began = 0
        self._reranker = reranker

    def run(self) -> RankedPage:
        self.began = perf_counter_ns()
        return self._reranker.rerank(self.page)


def _limit_s(timeout_s: float, context: _Context) -> float:
    """Return the seconds for reranking: the timeout, or what the client's deadline leaves."""
    remaining_s: float | None = context.time_remaining()
    if remaining_s is None:
        return timeout_s
    answer_s = min(max(remaining_s * _ANSWER_SHARE, _ANSWER_MIN_S), _ANSWER_MAX_S)
    return min(timeout_s, remaining_s - answer_s)


def _peer_host(context: _Context) -> str:
    """Return the peer without its port, which differs by connection."""
    peer: str = context.peer()
    return peer.rpartition(":")[0]


def _too_late(page: SearchPage, reranker: Reranker, limit_s: float) -> RankedPage:
    detail = f"deadline: got {max(limit_s, 0) * 1_000:.0f} ms, want more for this page"
    return _in_retrieval_order(page, reranker, DegradedReason.DEADLINE, detail)


def _overloaded(page: SearchPage, reranker: Reranker) -> RankedPage:
    detail = "queue: got more candidates than it holds, want fewer at once"
    return _in_retrieval_order(page, reranker, DegradedReason.OVERLOADED, detail)


def _failed(page: SearchPage, reranker: Reranker) -> RankedPage:
    detail = "the reranker failed, see the server's log"
    return _in_retrieval_order(page, reranker, DegradedReason.SCORER_FAILED, detail)


def _in_retrieval_order(
    page: SearchPage, reranker: Reranker, reason: DegradedReason, detail: str
) -> RankedPage:
    return reranker.in_retrieval_order(page, reason, detail, Timings())

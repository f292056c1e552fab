"""The service of `rerank.proto`: convert, rerank within the deadline, convert."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from time import monotonic, perf_counter_ns
from typing import Any, TypeAlias

import grpc

from rerank_server.contract.errors import RerankError
from rerank_server.convert import page_from_pb, response_to_pb
from rerank_server.page import (
    DegradedReason,
    RankedPage,
    SearchPage,
    Timings,
    retrieval_order,
)
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.rerank_pb2_grpc import RerankServiceServicer
from rerank_server.reranker import Reranker
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
        self, reranker: Reranker, workers: ThreadPoolExecutor, *, timeout: timedelta
    ) -> None:
        """Serve `reranker` on `workers`, each page within `timeout` or the client's deadline."""
        self._reranker = reranker
        self._workers = workers
        self._timeout_s = timeout.total_seconds()
        self._started = monotonic()
        self._version = server_version()

    async def Rerank(  # noqa: N802 - gRPC's name
        self, request: pb.RerankRequest, context: _Context
    ) -> pb.RerankResponse:
        """Rerank one page."""
        arrived = perf_counter_ns()
        page = page_from_pb(request)
        ranked, queue_us = await self._rerank_in_time(page, _remaining_s(context), arrived)
        total_us = (perf_counter_ns() - arrived) // 1_000
        return response_to_pb(ranked, queue_us=queue_us, total_us=total_us, version=self._version)

    async def GetServerStatus(  # noqa: N802 - gRPC's name
        self,
        request: pb.GetServerStatusRequest,  # noqa: ARG002 - it has no fields
        context: _Context,  # noqa: ARG002 - gRPC passes it
    ) -> pb.GetServerStatusResponse:
        """Say what this server serves."""
        manifest = self._reranker.bundle.manifest
        schema = manifest.schema
        provider = self._reranker.scorer.provider
        return pb.GetServerStatusResponse(
            bundle_id=manifest.bundle_id,
            bundle_created=manifest.created,
            server_version=self._version,
            provider=provider,
            device="cuda" if provider == "CUDAExecutionProvider" else "cpu",
            scorer_threads=self._reranker.scorer.threads,
            products=self._reranker.products.size,
            as_of_day=self._reranker.products.table.as_of_day,
            uptime_s=monotonic() - self._started,
            objectives=schema.objectives,
            categories=schema.categories[1:],
            surfaces=schema.surfaces,
            signals=[signal.name for signal in schema.signals],
            event_kinds=schema.event_kinds,
            figures=manifest.figures,
        )

    async def _rerank_in_time(
        self, page: SearchPage, remaining_s: float | None, arrived: int
    ) -> tuple[RankedPage, int]:
        """Return the ranked page and the microseconds it waited for a worker."""
        limit_s = self._timeout_s
        if remaining_s is not None:
            answer_s = min(max(remaining_s * _ANSWER_SHARE, _ANSWER_MIN_S), _ANSWER_MAX_S)
            limit_s = min(limit_s, remaining_s - answer_s)
        if limit_s <= 0:
            return self._too_late(page, limit_s), 0
        started = arrived

        def rerank() -> RankedPage:
            nonlocal started
            started = perf_counter_ns()
            return self._reranker.rerank(page)

        loop = asyncio.get_running_loop()
        try:
            # a page still waiting for a worker is cancelled and never scored
            ranked = await asyncio.wait_for(loop.run_in_executor(self._workers, rerank), limit_s)
        except TimeoutError:
            return self._too_late(page, limit_s), 0
        except RerankError:
            raise
        except Exception:  # noqa: BLE001 - whatever fails, the shopper gets retrieval order
            _LOG.exception("reranking failed")
            return self._failed(page), 0
        return ranked, (started - arrived) // 1_000

    def _too_late(self, page: SearchPage, limit_s: float) -> RankedPage:
        return retrieval_order(
            page,
            self._reranker.bundle.manifest.bundle_id,
            DegradedReason.DEADLINE,
            f"deadline: got {max(limit_s, 0) * 1_000:.0f} ms, want more for this page",
            Timings(),
        )

    def _failed(self, page: SearchPage) -> RankedPage:
        return retrieval_order(
            page,
            self._reranker.bundle.manifest.bundle_id,
            DegradedReason.SCORER_FAILED,
            "the reranker failed, see the server's log",
            Timings(),
        )


def _remaining_s(context: _Context) -> float | None:
    """Return the seconds until the client's deadline; None without one."""
    remaining: float | None = context.time_remaining()
    return remaining

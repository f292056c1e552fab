"""The gateway's calls of the rerank server: within a time, bounded, and never an error outside."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rerank_server.canary import in_canary
from rerank_server.client.async_client import AsyncRerankClient
from rerank_server.client.connection import ClientTls, Connection
from rerank_server.client.messages import AnswerError, CallError
from rerank_server.gateway.breaker import Breaker
from rerank_server.gateway.errors import RankingError
from rerank_server.gateway.record import VARIANT_CANARY, VARIANT_CURRENT
from rerank_server.page import SearchPage

STATUS_EVERY_S = 5.0
_STATUS_TIMEOUT_MS = 2_000
# Of the page or of the caller; the server is well.
_NOT_ITS_FAULT = {
    "invalid_argument": "refused_page",
    "resource_exhausted": "overloaded",
    # more calls came than the server looks at (`--unread-calls`); our own end no call this way
    "cancelled": "overloaded",
    "unauthenticated": "unauthenticated",
}
_ITS_FAULT = {"deadline_exceeded": "deadline", "unavailable": "unavailable"}
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ranking:
    """What the reranker made of a page.

    Attributes:
        ids: Product ids, best first.
        scores: Of each; empty when degraded.
        hidden: How many a policy left out.
        bundle_id: The bundle that answered.
        variant: `current`, `canary`, or empty when that is not known.
        degraded_reason: Why it is retrieval order; empty when it is not.
        degraded_detail: The same in words.
        stages_ms: Milliseconds by stage of the server.
        unknown: How many candidates the product store does not hold.
    """

    ids: tuple[str, ...]
    scores: tuple[float, ...]
    hidden: int
    bundle_id: str
    variant: str
    degraded_reason: str
    degraded_detail: str
    stages_ms: dict[str, float]
    unknown: int = 0


class PageRanker(Protocol):
    """What puts a page in order."""

    async def rank(self, page: SearchPage, timeout_ms: int) -> Ranking:
        """Return the page in its new order.

        Raises:
            RankingError: When there is none in time.
        """
        ...

    def variant_of(self, shopper_id: str | None) -> str:
        """Return the arm that a shopper is in: `current`, `canary`, or empty when not known."""
        ...


class RankerClient:
    """Calls one server; use it inside one event loop."""

    def __init__(
        self, client: AsyncRerankClient, *, max_calls: int, fair_timeout_ms: int = 0
    ) -> None:
        """Call by `client`, at most `max_calls` pages at the same time.

        A page that was given less than `fair_timeout_ms` and came late says nothing of the server.
        """
        self._client = client
        self._fair_timeout_ms = fair_timeout_ms
        self._max_calls = max_calls
        self._calls = 0
        self._breaker = Breaker()
        self._current = self._canary = ""
        self._canary_percent = 0.0
        self._watching: asyncio.Task[None] | None = None

    def watch_status(self) -> None:
        """Begin to ask, every 5 seconds, which bundles answer."""
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """End the calls."""
        if self._watching is not None:
            self._watching.cancel()
        await self._client.close()

    async def rank(self, page: SearchPage, timeout_ms: int) -> Ranking:
        """Return the page in its new order.

        Raises:
            RankingError: When it failed, was late, or was not tried.
        """
        if self._calls >= self._max_calls:
            raise RankingError("overloaded", f"calls: got {self._calls} already, want fewer")
        if not self._breaker.lets_through():
            raise RankingError("circuit_open", "reranker: got failures in a row, waiting a little")
        self._calls += 1
        failed: bool | None = None  # of the server; None when the call says nothing about it
        try:
            answer = await self._client.ask(page, timeout_ms=timeout_ms)
            failed = False
        except CallError as error:
            failed = error.status not in _NOT_ITS_FAULT
            reasons = _ITS_FAULT if failed else _NOT_ITS_FAULT
            if error.status == "deadline_exceeded" and timeout_ms < self._fair_timeout_ms:
                failed = None
            raise RankingError(reasons.get(error.status, "failed"), str(error)) from error
        except AnswerError as error:
            failed = True
            raise RankingError("wrong_answer", str(error)) from error
        finally:
            self._calls -= 1
            if failed is not None:
                self._breaker.count(failed=failed)
        trace = answer.policy_trace
        return Ranking(
            ids=answer.candidate_ids,
            scores=tuple(answer.scores.tolist()),
            hidden=trace.hidden if trace else 0,
            bundle_id=answer.bundle_id,
            variant=self._variant(answer.bundle_id),
            degraded_reason=answer.degraded_reason,
            degraded_detail=answer.degraded_detail,
            stages_ms={f"{name}_ms": us / 1_000 for name, us in answer.stages_us.items()},
            unknown=answer.unknown_candidates,
        )

    def variant_of(self, shopper_id: str | None) -> str:
        """Return the arm that the server would answer a shopper by; it splits shoppers alike.

        Of a search that found nothing, of which the server never hears. Empty before the server
        has said which bundles answer.
        """
        if not self._current:
            return ""
        tried = in_canary(shopper_id, self._canary_percent, self._canary)
        return VARIANT_CANARY if tried else VARIANT_CURRENT

    def _variant(self, bundle_id: str) -> str:
        if bundle_id and bundle_id == self._current:
            return VARIANT_CURRENT
        return VARIANT_CANARY if bundle_id and bundle_id == self._canary else ""

    async def _watch(self) -> None:
        while True:
            try:
                status = await self._client.status(timeout_ms=_STATUS_TIMEOUT_MS)
                challenger = status.challenger or {}
                self._current = status.bundle_id
                self._canary = str(challenger.get("bundle_id", ""))
                self._canary_percent = float(challenger.get("canary_percent", 0.0))
            except CallError as error:
                _LOG.debug("status of the reranker", extra={"fields": {"code": error.status}})
            except Exception:  # noqa: BLE001 - a task that ends would leave every search unnamed
                _LOG.exception("status of the reranker: got no readable answer, asking again")
            await asyncio.sleep(STATUS_EVERY_S)


def open_ranker(
    address: str,
    *,
    authority: Path | None,
    token: str | None,
    max_calls: int,
    fair_timeout_ms: int = 0,
) -> RankerClient:
    """Return a client of `address`; it does not wait for the server.

    Args:
        address: host:port, or any target of gRPC.
        authority: PEM file of who signed the server's certificate; None speaks clear text.
        token: Bearer token, if the server wants one.
        max_calls: Pages at the same time.
        fair_timeout_ms: See `RankerClient`.

    Raises:
        ServerAddressError: When the address, the file or the token cannot be used.
    """
    connection = Connection(
        address=address,
        attempts=1,  # what fails at once is answered in retrieval order at once
        tls=None if authority is None else ClientTls(ca=authority),
        token=token or "",
    )
    return RankerClient(
        AsyncRerankClient(connection), max_calls=max_calls, fair_timeout_ms=fair_timeout_ms
    )

"""One of the processes behind a port: what it does for the supervisor, and asks of it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from typing import Any

from prometheus_client.registry import CollectorRegistry

from rerank_server.bundle_store import BundleChangeError, BundleStore
from rerank_server.contract.errors import RerankError
from rerank_server.live_products import LiveProducts
from rerank_server.processes.link import Link, LinkError, Message, RefusedError
from rerank_server.processes.merged_metrics import families_of
from rerank_server.processes.steps import Step, Taken, take_step
from rerank_server.reranker import Reranker

STEP_TIMEOUT_S = 600.0
_REPORT_TIMEOUT_S = 60.0
_LOG = logging.getLogger(__name__)


class Part:
    """This process as one of several."""

    def __init__(self, end: socket.socket, catch_up: Sequence[Step], *, others: int) -> None:
        """Prepare to talk to the supervisor.

        Args:
            end: Of a socket pair with it.
            catch_up: Leads to what the others hold.
            others: How many other processes there are.
        """
        self._end = end
        self._catch_up = catch_up
        self._others = others
        self._live: LiveProducts | None = None
        self._link: Link | None = None
        self._answering: asyncio.Task[None] | None = None
        self._bundles: BundleStore[Reranker] | None = None

    def catch_up(self, bundles: BundleStore[Reranker], live: LiveProducts | None) -> None:
        """Take the steps that the others have taken.

        Args:
            bundles: What this process holds.
            live: Its products that change; None where none do.

        Raises:
            BundleChangeError: When one cannot be taken any more.
        """
        self._bundles, self._live = bundles, live
        for step in self._catch_up:
            take_step(bundles, step)

    async def join(self, registry: CollectorRegistry | None, gone: asyncio.Event) -> None:
        """Begin to answer the supervisor; set `gone` when it is gone.

        From then on this process is told of changes of products, and it shows those before.

        Raises:
            LinkError: When the supervisor is gone already.
            ChangeLogError: When the log of changes cannot be read.
        """
        link = self._link = await Link.open(self._end)

        async def answer_to_the_end() -> None:
            try:
                await link.answer(lambda message: self._answer(message, registry))
            finally:
                gone.set()

        self._answering = asyncio.create_task(answer_to_the_end())
        await self._ask("joined", _REPORT_TIMEOUT_S)
        if self._live is not None:
            await asyncio.to_thread(self._live.catch_up)

    async def report(self, fields: dict[str, Any]) -> None:
        """Tell the supervisor that this process serves.

        Raises:
            LinkError: When the supervisor is gone.
        """
        await self._ask("serving", _REPORT_TIMEOUT_S, fields=fields)

    async def take(self, step: Step) -> Taken:
        """Have every process take a step, and return what it came to.

        Raises:
            BundleChangeError: When it cannot be taken; says why.
        """
        told = {"name": step.name, "arguments": dict(step.arguments)}
        try:  # waits for a step before, for this process and for the others
            restarted = await self._ask("step", 3 * STEP_TIMEOUT_S, **told)
        except (RefusedError, LinkError) as error:
            raise BundleChangeError(str(error)) from error
        return Taken(self._held().bundles, restarted=restarted)

    async def follow(self, change: int, timeout_s: float) -> int:
        """Have every process show the changes of products up to a number.

        Returns:
            How many others do not yet after `timeout_s`; all of them when nobody can say.
        """
        told = {"change": change, "within_s": 0.8 * timeout_s}  # leaves time for the answer
        try:
            behind: int = await self._ask("follow", timeout_s, **told)
        except (RefusedError, LinkError) as error:
            fields = {"change": change, "reason": str(error)}
            _LOG.warning("other processes were not told of a change", extra={"fields": fields})
            return self._others
        return behind

    async def _ask(self, what: str, timeout_s: float, **fields: Any) -> Any:  # noqa: ANN401 - JSON
        if self._link is None:
            raise LinkError(f"{what}: got no link yet, want `join` before")
        return await self._link.ask(what, timeout_s=timeout_s, **fields)

    async def _answer(self, message: Message, registry: CollectorRegistry | None) -> Any:  # noqa: ANN401 - JSON
        what = message["ask"]
        if what == "step":
            step = Step(message["name"], message["arguments"])
            await asyncio.to_thread(take_step, self._held(), step)
            return None
        if what == "follow":
            live, change = self._live, int(message["change"])
            return live is None or await asyncio.to_thread(live.shows, change)
        if what == "metrics":
            return [] if registry is None else families_of(registry)
        raise RerankError(f"process: got the question {what!r}, want step, follow or metrics")

    def _held(self) -> BundleStore[Reranker]:
        if self._bundles is None:
            raise LinkError("process: got a step before the bundle is open, want it later")
        return self._bundles

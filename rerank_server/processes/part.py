"""One of the processes behind a port: what it does for the supervisor, and asks of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

from prometheus_client.registry import CollectorRegistry

from rerank_server.bundle_store import BundleChangeError, Bundles, BundleStore
from rerank_server.contract.errors import RerankError
from rerank_server.processes.link import Link, LinkError, Message, RefusedError
from rerank_server.processes.merged_metrics import families_of
from rerank_server.processes.steps import Step, take_step
from rerank_server.reranker import Reranker

STEP_TIMEOUT_S = 600.0
_REPORT_TIMEOUT_S = 60.0


class Part:
    """This process as one of several."""

    def __init__(self, end: socket.socket, catch_up: Sequence[Step]) -> None:
        """Talk through `end` of a socket pair; `catch_up` leads to what the others hold."""
        self._end = end
        self._catch_up = catch_up
        self._link: Link | None = None
        self._answering: asyncio.Task[None] | None = None
        self._bundles: BundleStore[Reranker] | None = None

    def catch_up(self, bundles: BundleStore[Reranker]) -> None:
        """Take the steps that the others have taken.

        Raises:
            BundleChangeError: When one cannot be taken any more.
        """
        self._bundles = bundles
        for step in self._catch_up:
            take_step(bundles, step)

    async def join(self, registry: CollectorRegistry | None, gone: asyncio.Event) -> None:
        """Begin to answer the supervisor; set `gone` when it is gone."""
        link = self._link = await Link.open(self._end)

        async def answer_to_the_end() -> None:
            try:
                await link.answer(lambda message: self._answer(message, registry))
            finally:
                gone.set()

        self._answering = asyncio.create_task(answer_to_the_end())

    async def report(self, fields: dict[str, Any]) -> None:
        """Tell the supervisor that this process serves.

        Raises:
            LinkError: When the supervisor is gone.
        """
        await self._ask("serving", _REPORT_TIMEOUT_S, fields=fields)

    async def take(self, step: Step) -> Bundles[Reranker]:
        """Have every process take a step, and return what this one holds then.

        Raises:
            BundleChangeError: When it cannot be taken; says why.
        """
        try:
            await self._ask("step", STEP_TIMEOUT_S, name=step.name, arguments=dict(step.arguments))
        except (RefusedError, LinkError) as error:
            raise BundleChangeError(str(error)) from error
        return self._held().bundles

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
        if what == "metrics":
            return [] if registry is None else families_of(registry)
        raise RerankError(f"process: got the question {what!r}, want step or metrics")

    def _held(self) -> BundleStore[Reranker]:
        if self._bundles is None:
            raise LinkError("process: got a step before the bundle is open, want it later")
        return self._bundles

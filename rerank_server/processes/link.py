"""Questions and answers between two processes: JSON, one object a line, over a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any, TypeAlias

from rerank_server.contract.errors import RerankError

# A scrape of one process is about 20 KiB.
MAX_LINE_BYTES = 4 * 1024 * 1024
Message: TypeAlias = "Mapping[str, Any]"
Answerer: TypeAlias = "Callable[[Message], Awaitable[Any]]"
_LOG = logging.getLogger(__name__)


class LinkError(RerankError):
    """The other process is gone or does not answer."""


class GoneError(LinkError):
    """The other process is gone."""


class RefusedError(RerankError):
    """The other process refused, with its reason."""


class Link:
    """One end of a connection between two processes; both ask and both answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, end: socket.socket) -> Link:
        """Return the link of one end of a `socketpair`."""
        return cls(*await asyncio.open_unix_connection(sock=end, limit=MAX_LINE_BYTES))

    async def ask(self, what: str, *, timeout_s: float, **fields: Any) -> Any:  # noqa: ANN401 - JSON
        """Ask the other process and return its answer.

        Raises:
            RefusedError: When it refused.
            GoneError: When it is gone.
            LinkError: When it does not answer in time.
        """
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._write({"ask": what, "number": number, **fields})
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise LinkError(f"{what}: got no answer in {timeout_s:g} s, want one") from None
        finally:
            self._waiting.pop(number, None)

    async def answer(self, answerer: Answerer) -> None:
        """Answer what the other process asks, each question in a task, until it is gone."""
        try:
            while line := await self._reader.readline():
                message = json.loads(line)
                if "ask" in message:
                    task = asyncio.create_task(self._answer_one(message, answerer))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
                else:
                    self._take_answer(message)
        except (ConnectionError, ValueError) as error:  # ValueError: a line beyond the limit
            _LOG.debug("link ended: %s", error)
        finally:
            self.close()

    def close(self) -> None:
        """End the link; who still waits for an answer is told."""
        with contextlib.suppress(Exception):
            self._writer.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(GoneError("process: got its end, want an answer"))

    def _write(self, message: Message) -> None:
        if self._writer.is_closing():
            raise GoneError("process: got its end, want an answer")
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def _answer_one(self, message: Message, answerer: Answerer) -> None:
        answer: dict[str, Any] = {"number": message["number"]}
        try:
            answer["value"] = await answerer(message)
        except RerankError as error:
            answer["refused"] = str(error)
        except Exception:  # noqa: BLE001 - the asker gets an answer, the log the rest
            _LOG.exception("answering another process failed")
            answer["refused"] = "internal error, see the server's log"
        with contextlib.suppress(LinkError):
            self._write(answer)

    def _take_answer(self, message: Message) -> None:
        future = self._waiting.get(message["number"])
        if future is None or future.done():
            return
        if "refused" in message:
            future.set_exception(RefusedError(message["refused"]))
        else:
            future.set_result(message["value"])

"""Starts several server processes behind one port, keeps them running, and stops them.

Each process listens on the port by itself (SO_REUSEPORT: the kernel deals connections out), maps
the same product store, and is told every change of bundles and products. The supervisor answers no
page; it starts a process anew that has ended or hangs, and has one port of metrics and probes for
all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from prometheus_client.registry import CollectorRegistry

from rerank_server.contract.errors import RerankError
from rerank_server.probes import BEAT_EVERY_S, Probes, ProbeServer
from rerank_server.processes.held_port import held_port
from rerank_server.processes.link import GoneError, Link, LinkError, Message, RefusedError
from rerank_server.processes.merged_metrics import Family, MergedMetrics
from rerank_server.processes.part import STEP_TIMEOUT_S
from rerank_server.processes.steps import Held, Step
from rerank_server.settings import Settings

LOOK_EVERY_S = 2.0
STUCK_AFTER_S = 15.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_LOG = logging.getLogger(__name__)


class ProcessesError(RerankError):
    """The processes cannot serve together."""


def supervise(settings: Settings) -> None:
    """Serve with `settings.processes` processes until SIGTERM or SIGINT, then stop gracefully.

    Raises:
        PortError: When the port is taken or the address is not of this machine.
        ProcessesError: When the first process ends before it serves.
        ProbeAddressError: When the port of metrics and probes is taken.
    """
    with (
        held_port("port", settings.host, settings.port) as port,
        held_port("http_port", settings.host, settings.http_port) as http_port,
    ):
        asyncio.run(_Supervisor(settings, port, http_port).run())


@dataclass
class _Process:
    """One process.

    Attributes:
        number: From 0; its successor has the same.
        popen: The process.
        link: To it.
        told: What it was told to hold when it started.
        joined: Whether it is told of changes of products.
        serving: Set when it serves.
        late: Whether it was killed because it did not serve in time.
        answering: Answers what it asks.
        seen: When it answered last, or was first asked in vain; None before.
        families: Its newest metrics.
        started: When it was started.
    """

    number: int
    popen: subprocess.Popen[bytes]
    link: Link
    told: Held
    joined: bool = False
    serving: asyncio.Event = field(default_factory=asyncio.Event)
    late: bool = False
    answering: asyncio.Task[None] | None = None  # kept: tasks are held weakly
    seen: float | None = None
    families: list[Family] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)


class _Supervisor:
    """Runs in one event loop."""

    def __init__(self, settings: Settings, port: int, http_port: int) -> None:
        self._settings = settings
        self._ports = {"port": str(port), "http_port": str(http_port)}
        self._held = Held((str(settings.bundle), str(settings.products)))
        self._processes: dict[int, _Process] = {}
        self._stepping = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._probes = Probes()
        self._metrics = MergedMetrics(self._read_metrics)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Serve until a signal comes."""
        loop = self._loop = asyncio.get_running_loop()
        # a thread waits for each process; by default there are few more than cores
        waiters = ThreadPoolExecutor(self._settings.processes + 1, thread_name_prefix="wait")
        loop.set_default_executor(waiters)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._pass_on, signal.SIGHUP)
        with self._seen_from_outside():
            beating = asyncio.create_task(self._beat())
            keepers: list[asyncio.Task[None]] = []
            try:
                first = await self._start_first()
                keepers = [
                    asyncio.create_task(self._keep(number, first if number == 0 else None))
                    for number in range(self._settings.processes)
                ]
                await self._stopping.wait()
                _LOG.info("stopping")
            finally:
                self._stopping.set()
                self._probes.ready = False
                await self._stop(keepers)
                beating.cancel()
        _LOG.info("stopped")

    async def _start_first(self) -> _Process:
        """Start the first process alone: what is wrong with the settings is said once."""
        process = await self._start(0)
        ended = asyncio.create_task(asyncio.to_thread(process.popen.wait))
        waits = [asyncio.create_task(item.wait()) for item in (process.serving, self._stopping)]
        await asyncio.wait([ended, *waits], return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        if process.late and not self._stopping.is_set():
            raise ProcessesError(
                "processes: got one that did not serve within"
                f" {self._settings.start_timeout_ms} ms, want it to; --start-timeout-ms gives more"
            )
        if ended.done() and not self._stopping.is_set():
            raise ProcessesError(
                f"processes: got one that ended with status {ended.result()} before it served,"
                " want it to serve; it said why"
            )
        return process

    async def _keep(self, number: int, process: _Process | None) -> None:
        """Keep one process running until the server stops."""
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            try:
                process = process or await self._start(number)
            except OSError as error:  # no memory or descriptors for another process just now
                fields = {"process": number, "reason": error.strerror or str(error)}
                _LOG.error("process not started, trying again", extra={"fields": fields})
                pause_s = await self._pause(pause_s)
                continue
            status = await asyncio.to_thread(process.popen.wait)
            self._metrics.retire(process.families)
            del self._processes[number]
            if self._stopping.is_set():
                return
            _LOG.error(
                "process ended, it is started anew",
                extra={"fields": {"process": number, "status": status}},
            )
            if process.serving.is_set():
                pause_s = _FIRST_PAUSE_S
            pause_s = await self._pause(pause_s)
            process = None

    async def _pause(self, pause_s: float) -> float:
        """Wait, at most until the server stops, and return for how long the next time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
        return min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _start(self, number: int) -> _Process:
        ours, theirs = socket.socketpair()
        told = {
            "number": number,
            "settings": self._settings_of_a_process(),
            "catch_up": [asdict(step) for step in self._held.catch_up()],
        }
        ours.sendall(json.dumps(told).encode() + b"\n")
        with theirs:
            popen = subprocess.Popen(
                [sys.executable, "-m", "rerank_server.processes", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # signals of a terminal come from here
            )
        ours.setblocking(False)  # noqa: FBT003 - socket's own
        process = _Process(number, popen, await Link.open(ours), self._held)
        self._processes[number] = process
        if self._stopping.is_set():  # the stop came while it began, and has not seen it
            popen.terminate()
        process.answering = asyncio.create_task(process.link.answer(self._answerer(process)))
        return process

    def _settings_of_a_process(self) -> dict[str, str]:
        """Return the settings as texts, the port and the bundle as they are now."""
        settings = {
            item.name: str(value)
            for item in fields(Settings)
            if (value := getattr(self._settings, item.name)) is not None
        }
        bundle, products = self._held.first()
        return settings | self._ports | {"bundle": bundle, "products": products}

    def _answerer(self, process: _Process) -> Callable[[Message], Awaitable[Any]]:
        async def answer(message: Message) -> Any:  # noqa: ANN401 - JSON
            what = message["ask"]
            if what == "step":
                return await self._step(process, Step(message["name"], message["arguments"]))
            if what == "follow":
                return await self._follow(process, message["change"], message["within_s"])
            if what == "joined":
                process.joined = True
            elif what == "serving":
                await self._take_in(process, message["fields"])
            return None

        return answer

    async def _take_in(self, process: _Process, told: dict[str, Any]) -> None:
        async with self._stepping:
            if process.told != self._held:  # a step was taken while it started
                process.popen.terminate()
                return
            process.serving.set()
        self._probes.ready = not self._stopping.is_set()
        serving = [one for one in self._processes.values() if one.serving.is_set()]
        if len(serving) == self._settings.processes and not self._probes.started:
            self._probes.started = True
            told["processes"] = self._settings.processes
            _LOG.info("serving", extra={"fields": told})

    async def _step(self, asker: _Process, step: Step) -> int:
        """Have every process take a step: first the one that was asked, then the others.

        Returns:
            How many of the others could not; they are started anew with what it led to.

        Raises:
            RefusedError: When the first refuses; nothing is changed then.
            LinkError: When the first does not answer; it is started anew, nothing is changed.
        """
        async with self._stepping:
            arguments = {"name": step.name, "arguments": step.arguments}
            try:
                await asker.link.ask("step", timeout_s=STEP_TIMEOUT_S, **arguments)
            except LinkError:
                asker.popen.terminate()  # it may take the step yet
                raise
            others = [
                one for one in self._processes.values() if one is not asker and one.serving.is_set()
            ]
            asked = (one.link.ask("step", timeout_s=STEP_TIMEOUT_S, **arguments) for one in others)
            results = await asyncio.gather(*asked, return_exceptions=True)
            self._held = self._held.after(step)
            for one, result in zip(others, results, strict=True):
                if isinstance(result, BaseException):
                    # it holds something else than the others now: what it held before
                    fields_of = {"process": one.number, "reason": str(result)}
                    _LOG.error("process could not follow", extra={"fields": fields_of})
                    one.popen.terminate()
                else:
                    one.told = self._held
            asker.told = self._held
        return sum(isinstance(result, BaseException) for result in results)

    async def _follow(self, asker: _Process, change: int, within_s: float) -> int:
        """Have the other processes show the changes of products up to a number.

        Returns:
            How many do not yet after `within_s`. One that is gone does not count: its successor
            reads the log before it serves.
        """
        others = [one for one in self._processes.values() if one is not asker and one.joined]
        asked = (one.link.ask("follow", timeout_s=within_s, change=change) for one in others)
        behind = 0
        results = await asyncio.gather(*asked, return_exceptions=True)
        for one, result in zip(others, results, strict=True):
            if result is True or isinstance(result, GoneError):
                continue
            behind += 1
            fields_of = {"process": one.number, "change": change, "reason": str(result)}
            _LOG.warning("process is behind with changes of products", extra={"fields": fields_of})
        return behind

    async def _beat(self) -> None:
        """Read the processes' metrics, and end one that hangs; until cancelled."""
        looked = time.monotonic()
        while True:
            self._probes.beat()
            await asyncio.sleep(BEAT_EVERY_S)
            if time.monotonic() - looked >= LOOK_EVERY_S:
                looked = time.monotonic()
                await asyncio.gather(*(self._look(one) for one in list(self._processes.values())))

    async def _look(self, process: _Process, timeout_s: float = LOOK_EVERY_S) -> None:
        if not process.serving.is_set():
            self._end_if_late(process)
            return
        try:
            process.families = await process.link.ask("metrics", timeout_s=timeout_s)
            process.seen = time.monotonic()
        except (LinkError, RefusedError):
            process.seen = process.seen or time.monotonic()
            if time.monotonic() - process.seen > STUCK_AFTER_S and process.popen.poll() is None:
                _LOG.error(
                    "process hangs, it is killed", extra={"fields": {"process": process.number}}
                )
                process.popen.kill()

    def _end_if_late(self, process: _Process) -> None:
        """Kill a process that does not serve within the time for it."""
        took_s = time.monotonic() - process.started
        if took_s <= self._settings.start_timeout.total_seconds() or process.late:
            return
        process.late = True
        fields_of = {"process": process.number, "after_s": round(took_s, 1)}
        _LOG.error("process does not begin to serve, it is killed", extra={"fields": fields_of})
        process.popen.kill()

    def _read_metrics(self) -> Mapping[int, list[Family]]:
        """Return the metrics of now; from the thread of the scrape."""
        if self._loop is not None and self._loop.is_running():

            async def look() -> None:
                await asyncio.gather(*(self._look(one, 1.0) for one in self._processes.values()))

            with contextlib.suppress(Exception):  # then the newest known
                asyncio.run_coroutine_threadsafe(look(), self._loop).result(2.0)
        return {one.number: one.families for one in list(self._processes.values())}

    def _pass_on(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            if process.serving.is_set() and process.popen.poll() is None:
                process.popen.send_signal(number)

    async def _stop(self, keepers: list[asyncio.Task[None]]) -> None:
        processes = list(self._processes.values())
        for process in processes:
            if process.popen.poll() is None:
                process.popen.terminate()
        until = time.monotonic() + self._settings.stop_grace.total_seconds() + 5
        while any(one.popen.poll() is None for one in processes) and time.monotonic() < until:
            await asyncio.sleep(0.02)
        for process in processes:
            if process.popen.poll() is None:
                process.popen.kill()
            process.link.close()
        for keeper in keepers:
            await keeper

    @contextmanager
    def _seen_from_outside(self) -> Generator[None]:
        settings = self._settings
        if settings.metrics_port < 0:
            yield
            return
        registry = CollectorRegistry()
        registry.register(self._metrics)
        host = settings.metrics_host
        server = ProbeServer(host, settings.metrics_port, self._probes, registry)
        fields_of = {"address": f"{host}:{server.port}"}
        _LOG.info("metrics and probes", extra={"fields": fields_of})
        try:
            yield
        finally:
            server.close()

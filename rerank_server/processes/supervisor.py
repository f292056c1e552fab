"""Starts several server processes behind one port, keeps them running, and stops them.

Each process listens on the port by itself (SO_REUSEPORT: the kernel deals connections out), maps
the same product store, and is told every change of bundles. The supervisor answers no page; it
starts a process anew that has ended or hangs, and has one port of metrics and probes for all.
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
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from prometheus_client.registry import CollectorRegistry

from rerank_server.contract.errors import RerankError
from rerank_server.probes import BEAT_EVERY_S, Probes, ProbeServer
from rerank_server.processes.link import Link, LinkError, Message, RefusedError
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
        ProcessesError: When the port is taken, or the first process ends before it serves.
        ProbeAddressError: When the port of metrics and probes is taken.
    """
    with (
        _held_port("port", settings.host, settings.port) as port,
        _held_port("http_port", settings.host, settings.http_port) as http_port,
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
        serving: Set when it serves.
        families: Its newest metrics.
    """

    number: int
    popen: subprocess.Popen[bytes]
    link: Link
    told: Held
    serving: asyncio.Event = field(default_factory=asyncio.Event)
    fields: dict[str, Any] = field(default_factory=dict)
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
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._stopping.wait()
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
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
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            process = None

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
        task = asyncio.create_task(process.link.answer(self._answerer(process)))
        task.add_done_callback(lambda _: None)
        process.fields["link"] = task  # tasks are held weakly
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
        async def answer(message: Message) -> None:
            if message["ask"] == "serving":
                await self._take_in(process, message["fields"])
            elif message["ask"] == "step":
                await self._step(process, Step(message["name"], message["arguments"]))

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

    async def _step(self, asker: _Process, step: Step) -> None:
        """Have every process take a step: first the one that was asked, then the others.

        Raises:
            RefusedError: When the first refuses; nothing is changed then.
            ProcessesError: When one of the others does; those are started anew.
        """
        async with self._stepping:
            arguments = {"name": step.name, "arguments": step.arguments}
            await asker.link.ask("step", timeout_s=STEP_TIMEOUT_S, **arguments)
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

    async def _beat(self) -> None:
        """Read the processes' metrics, and end a process that hangs; until cancelled."""
        looked = time.monotonic()
        while True:
            self._probes.beat()
            await asyncio.sleep(BEAT_EVERY_S)
            if time.monotonic() - looked >= LOOK_EVERY_S:
                looked = time.monotonic()
                await asyncio.gather(*(self._look(one) for one in list(self._processes.values())))

    async def _look(self, process: _Process, timeout_s: float = LOOK_EVERY_S) -> None:
        if not process.serving.is_set():
            return
        try:
            process.families = await process.link.ask("metrics", timeout_s=timeout_s)
            process.fields["seen"] = time.monotonic()
        except (LinkError, RefusedError):
            seen = process.fields.setdefault("seen", time.monotonic())
            if time.monotonic() - seen > STUCK_AFTER_S and process.popen.poll() is None:
                _LOG.error(
                    "process hangs, it is killed", extra={"fields": {"process": process.number}}
                )
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


@contextmanager
def _held_port(name: str, host: str, port: int) -> Generator[int]:
    """Hold a port for processes that share it, 0 a free one, so that no other server takes it.

    Raises:
        ProcessesError: When it is taken or the address is not of this machine.
    """
    if port < 0:
        yield port
        return
    address = host.strip("[]")
    try:
        family, _, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as alone:  # fails where anybody listens, sharing or not
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(place)
        holder = socket.socket(family)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(place)
    except OSError as error:
        raise ProcessesError(
            f"{name}, {host}:{port}: got {error.strerror or error}, want a free address of this"
            " machine"
        ) from error
    with holder:
        yield int(holder.getsockname()[1])

"""Starts Elasticsearch, fills its index, and puts server and gateway in front of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from deploy.demo_elasticsearch.errors import (
    ElasticsearchMissingError,
    ProgramError,
    TooLittleMemoryError,
)
from deploy.demo_elasticsearch.loop_demo import CROSSRANK, TIMEOUT_MS, Addresses, First, LoopDemo
from deploy.demo_elasticsearch.programs import Program
from deploy.loop.training import BUNDLE, PRODUCTS

START_S = 620.0
# Elasticsearch takes 1.5 GiB, training and servers as much.
LEAST_MEMORY_BYTES = 3 * 1024**3


def require_memory() -> None:
    """Refuse to start an Elasticsearch that would have the system kill something.

    Raises:
        TooLittleMemoryError: Less is free than it takes.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return  # no Linux
    sizes = {line.split(":")[0]: line.split()[1] for line in lines}
    free = int(sizes.get("MemAvailable", "0")) * 1024
    if free < LEAST_MEMORY_BYTES:
        raise TooLittleMemoryError(
            f"memory: got {free / 1024**3:.1f} GiB free, want {LEAST_MEMORY_BYTES / 1024**3:.0f}"
            " for Elasticsearch, server and training"
        )


def start_programs(demo: LoopDemo, first: First, open_things: ExitStack) -> Addresses:
    """Start what runs beside the demo; `open_things` ends it.

    Raises:
        RerankError: The child that names what is wrong.
    """
    folder, display = demo.folder, demo.display
    with display.step("Elasticsearch", demo.settings.elasticsearch or "a real one, started here"):
        url = demo.settings.elasticsearch or _start_node(demo, open_things)
        display.say(url)
    with display.step("Index", "templates and streams, then the catalogue with its vectors"):
        demo.run("apply", CROSSRANK, ["es", "apply", "--url", url])
        arguments = ["es", "index", str(first.demo.snapshot), "--url", url]
        demo.run("index", CROSSRANK, [*arguments, "--bundle", str(first.demo.bundle)])
    with display.step("Serve", "the rerank server, and the gateway before Elasticsearch"):
        key, serving = str(folder.key_file()), demo.serving(first)[0]
        server = open_things.enter_context(
            Program(
                "rerank server",
                CROSSRANK,
                ["serve", "--bundle", str(serving / BUNDLE), "--products",
                 str(serving / PRODUCTS), "--port", "0", "--admin", "true",
                 "--timeout-ms", str(TIMEOUT_MS)],
                folder.logs / "server.log",
            )
        )  # fmt: skip
        address = server.wait_for(_logged("serving"), START_S, display.say)
        display.say(f"{server.command}: {address}")
        gateway = open_things.enter_context(
            Program(
                "gateway",
                CROSSRANK,
                ["gateway", "--elasticsearch", url, "--reranker", address, "--port", "0",
                 "--shopper-key", key, "--events-hashed", "true",
                 "--rerank-timeout-ms", str(TIMEOUT_MS),
                 "--telemetry-url", url, "--telemetry-spool", str(folder.spool)],
                folder.logs / "gateway.log",
            )
        )  # fmt: skip
        in_front = gateway.wait_for(_logged("gateway listens"), START_S, display.say)
        display.say(f"{gateway.command}: {in_front}")
        demo.done.commands += [{"command": each.command} for each in (server, gateway)]
        _reload_canary(demo, address)
    return Addresses(url, address, f"http://{in_front}")


def _start_node(demo: LoopDemo, open_things: ExitStack) -> str:
    try:
        node = open_things.enter_context(
            Program(
                "Elasticsearch",
                "deploy.demo_elasticsearch.node",
                [str(demo.folder.node)],
                demo.folder.logs / "elasticsearch.log",
            )
        )
        return node.wait_for(
            lambda line: line.strip() if line.startswith("http://") else None,
            START_S,
            demo.display.say,
        )
    except ProgramError as error:
        raise ElasticsearchMissingError(
            f"{error}. It is fetched by its coordinates once and kept in var/elasticsearch; where"
            " that cannot be reached, name a running one with --elasticsearch URL"
        ) from error


def _reload_canary(demo: LoopDemo, server: str) -> None:
    """Give a server that starts anew the bundle that an earlier call has published."""
    candidate = demo.done.learned.get("candidate") or {}
    if demo.done.learned.get("decision") != "canary" or not candidate:
        return
    folder = Path(candidate["folder"])
    load = ["bundle", "load", str(folder / BUNDLE), str(folder / PRODUCTS), "--server", server]
    demo.run("load", CROSSRANK, load)
    percent = f"{demo.settings.canary_percent:g}"
    demo.run("canary", CROSSRANK, ["bundle", "canary", percent, "--server", server])


def _logged(message: str) -> Callable[[str], str | None]:
    """Return what reads the address in a program's own line of a log."""

    def read(line: str) -> str | None:
        try:
            entry = json.loads(line)
        except ValueError:
            return None
        if isinstance(entry, dict) and entry.get("message") == message:
            return str(entry["address"])
        return None

    return read

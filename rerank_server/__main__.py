"""The command line: serve, build a product store, check a bundle."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from time import monotonic

from rerank_server.contract.bundle import read_bundle
from rerank_server.contract.errors import RerankError
from rerank_server.cores import available_cores
from rerank_server.one_line_log import configure_logging
from rerank_server.onnx_graph import check_golden, open_graphs
from rerank_server.product_build import Progress, build_product_store
from rerank_server.reranker import Reranker
from rerank_server.server import serve
from rerank_server.settings import Settings, read_settings
from rerank_server.version import server_version

_PROGRESS_EVERY_S = 2.0
_LOG = logging.getLogger("rerank_server")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 an error it names, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except RerankError as error:
        print(f"crossrank: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("crossrank: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crossrank", description="Reranks e-commerce search results across categories."
    )
    parser.add_argument("--version", action="version", version=f"crossrank {server_version()}")
    commands = parser.add_subparsers(required=True, metavar="command")

    serving = commands.add_parser(
        "serve",
        help="serve a bundle over gRPC",
        epilog="Each flag can be set as RERANK_<NAME> in the environment as well.",
    )
    for setting in fields(Settings):
        default = "" if setting.name in {"bundle", "products"} else f" (default {setting.default})"
        serving.add_argument(
            f"--{setting.name.replace('_', '-')}",
            metavar="VALUE",
            help=f"{_setting_help(setting.name)}{default}",
        )
    serving.set_defaults(command=_serve)

    building = commands.add_parser(
        "build-products", help="build a product store from a catalogue snapshot"
    )
    building.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    building.add_argument("--snapshot", type=Path, required=True, help="folder of the snapshot")
    building.add_argument("--out", type=Path, required=True, help="folder to write")
    building.set_defaults(command=_build_products)

    checking = commands.add_parser(
        "check-bundle", help="verify a bundle and replay its golden pages"
    )
    checking.add_argument("bundle", type=Path, help="folder of the bundle")
    checking.set_defaults(command=_check_bundle)
    return parser


def _setting_help(name: str) -> str:
    """Return the sentence of the setting's entry in the docstring of `Settings`."""
    lines = (Settings.__doc__ or "").splitlines()
    return next(
        line.split(": ", 1)[1] for line in lines if line.strip().startswith(f"{name}: ")
    ).rstrip(".")


def _serve(options: argparse.Namespace) -> int:
    flags = {setting.name: getattr(options, setting.name) for setting in fields(Settings)}
    settings = read_settings(flags, os.environ)
    configure_logging(settings.log_level)
    reranker = Reranker.open(
        settings.bundle, settings.products, threads=settings.scorer_thread_count
    )
    asyncio.run(
        serve(
            reranker,
            host=settings.host,
            port=settings.port,
            workers=settings.worker_count,
            timeout=settings.timeout,
            stop_grace=settings.stop_grace,
            max_message_bytes=settings.max_message_bytes,
        )
    )
    return 0


def _build_products(options: argparse.Namespace) -> int:
    configure_logging("info")
    bundle = read_bundle(options.bundle)
    graphs = open_graphs(bundle, threads=available_cores())
    size = build_product_store(bundle, graphs, options.snapshot, options.out, _log_progress())
    print(f"{options.out}: {size} products, bundle {bundle.manifest.bundle_id[:12]}")
    return 0


def _log_progress() -> Progress:
    started = last = monotonic()

    def log(done: int, total: int) -> None:
        nonlocal last
        now = monotonic()
        if done < total and now - last < _PROGRESS_EVERY_S:
            return
        last = now
        rate = done / max(now - started, 1e-9)
        fields = {"done": done, "total": total, "per_s": round(rate)}
        _LOG.info("encoding products", extra={"fields": fields})

    return log


def _check_bundle(options: argparse.Namespace) -> int:
    bundle = read_bundle(options.bundle)
    difference = check_golden(bundle, open_graphs(bundle, threads=available_cores()))
    manifest = bundle.manifest
    print(f"{options.bundle}: bundle {manifest.bundle_id[:12]} of {manifest.created} is whole")
    print(
        f"{len(bundle.golden.pages)} golden pages differ by at most {difference:.3g},"
        f" within {manifest.tolerance:.3g}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The command line: serve, build a product store, check a bundle."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from rerank_server.access_log import AccessLog, read_shopper_key
from rerank_server.batcher import share_calls
from rerank_server.bundle_store import BundleStore
from rerank_server.contract.bundle import read_bundle
from rerank_server.contract.errors import RerankError
from rerank_server.cores import available_cores
from rerank_server.doors import Doors
from rerank_server.metrics import MeasuredScorer, Metrics
from rerank_server.one_line_log import configure_logging
from rerank_server.onnx_graph import check_golden, open_graphs
from rerank_server.policy_file import PolicyFile
from rerank_server.probes import ProbeServer
from rerank_server.product_build import Progress, build_product_store
from rerank_server.reranker import Reranker
from rerank_server.server import serve
from rerank_server.settings import Settings, SettingsError, read_settings
from rerank_server.tls import TlsFiles, check_address, is_loopback, server_context
from rerank_server.tokens import TokenGate, new_token
from rerank_server.version import server_version

if TYPE_CHECKING:
    from rerank_server.spans import SpanExport

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
        bare: dict[str, Any] = {"nargs": "?", "const": "true"} if setting.default is False else {}
        serving.add_argument(
            f"--{setting.name.replace('_', '-')}",
            metavar="VALUE",
            help=f"{_setting_help(setting.name)}{default}",
            **bare,
        )
    serving.set_defaults(command=_serve)

    building = commands.add_parser(
        "build-products", help="build a product store from a catalogue snapshot"
    )
    building.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    building.add_argument("--snapshot", type=Path, required=True, help="folder of the snapshot")
    building.add_argument("--out", type=Path, required=True, help="folder to write")
    building.set_defaults(command=_build_products)

    naming = commands.add_parser(
        "new-token",
        help="make a bearer token: its entry for the token file goes to standard output,"
        " the token itself to standard error, once",
    )
    naming.add_argument("name", help="who will call with it")
    naming.set_defaults(command=_new_token)

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
    doors = _open_doors(settings)
    policy = None if settings.policy is None else PolicyFile(settings.policy)
    with _seen_from_outside(settings, doors):

        def open_reranker(bundle: Path, products: Path) -> Reranker:
            reranker = Reranker.open(bundle, products, threads=settings.scorer_thread_count)
            if doors.metrics is not None:
                reranker.scorer = MeasuredScorer(reranker.scorer, doors.metrics)
            share_calls(reranker)
            if policy is not None:
                policy.attach(reranker)
            return reranker

        bundles = BundleStore(open_reranker(settings.bundle, settings.products), open_reranker)
        serving = serve(
            bundles,
            host=settings.host,
            port=settings.port,
            workers=settings.worker_count,
            timeout=settings.timeout,
            stop_grace=settings.stop_grace,
            max_message_bytes=settings.max_message_bytes,
            doors=doors,
        )
        asyncio.run(_with_policy_watched(serving, policy))
    return 0


async def _with_policy_watched(
    serving: Coroutine[None, None, None], policy: PolicyFile | None
) -> None:
    """Serve, and reload the policy when its file changes or SIGHUP comes."""
    if policy is None:
        await serving
        return
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    watching = asyncio.create_task(policy.watch(asked))
    try:
        await serving
    finally:
        watching.cancel()


def _open_doors(settings: Settings) -> Doors:
    """Read what the settings name and refuse what is not safe, before anything is loaded."""
    tls = None
    if settings.tls_certificate is not None and settings.tls_key is not None:
        tls = TlsFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
        server_context(tls)
    insecure = settings.insecure_listen
    check_address("host", settings.host, encrypted=tls is not None, insecure_listen=insecure)
    measured = settings.metrics_port >= 0
    if measured:
        check_address(
            "metrics_host", settings.metrics_host, encrypted=False, insecure_listen=insecure
        )
    gate = None if settings.tokens is None else TokenGate(settings.tokens)
    if gate is not None and tls is None and not is_loopback(settings.host):
        _LOG.warning("tokens travel in clear text: the port has no TLS")
    key = None if settings.shopper_key is None else read_shopper_key(settings.shopper_key)
    return Doors(
        tls=tls,
        gate=gate,
        local=is_loopback(settings.host),
        access_log=AccessLog(settings.access_log_share, key),
        metrics=Metrics() if measured else None,
        spans=_open_spans(settings.otlp_endpoint),
        admin=settings.admin,
        http_port=None if settings.http_port < 0 else settings.http_port,
    )


def _open_spans(endpoint: str | None) -> SpanExport | None:
    if endpoint is None:
        return None
    try:
        from rerank_server.spans import SpanExport  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise SettingsError(
            f"otlp_endpoint: got no module {error.name!r}, want `pip install 'crossrank[otlp]'`"
        ) from error
    return SpanExport(endpoint)


@contextmanager
def _seen_from_outside(settings: Settings, doors: Doors) -> Generator[None]:
    """Answer metrics and probes, and send spans, while the block runs."""
    with ExitStack() as stack:
        if doors.spans is not None:
            stack.callback(doors.spans.close)
        if doors.metrics is not None:
            host, registry = settings.metrics_host, doors.metrics.registry()
            server = ProbeServer(host, settings.metrics_port, doors.probes, registry)
            stack.callback(server.close)
            fields = {"address": f"{host}:{server.port}"}
            _LOG.info("metrics and probes", extra={"fields": fields})
        yield


def _new_token(options: argparse.Namespace) -> int:
    token, entry = new_token(options.name)
    print(entry)
    print(token, file=sys.stderr)
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

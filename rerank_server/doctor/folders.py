"""Checks of what a server reads: bundle, product store, policy, and the folder it writes to."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rerank_server.contract.bundle import Bundle, read_bundle
from rerank_server.contract.errors import RerankError
from rerank_server.cores import available_cores
from rerank_server.doctor.finding import Finding, broken, good, warning
from rerank_server.onnx_graph import check_golden, open_graphs
from rerank_server.policy_file import read_policy
from rerank_server.reranker import Reranker
from rerank_server.settings import Settings

_ROOM_BYTES = 256 * 1024 * 1024
_EXPORT = "copy the bundle again from where it was exported, or export it again"


def check_folders(settings: Settings) -> Iterator[Finding]:
    """Check bundle, product store and policy, each only when what it needs is whole."""
    try:
        bundle = read_bundle(settings.bundle)
        difference = check_golden(bundle, open_graphs(bundle, threads=available_cores()))
    except RerankError as error:
        yield broken("bundle", str(error), _bundle_advice(settings.bundle, str(error)))
        yield from _check_policy(settings, None)
        return
    bundle_id = bundle.manifest.bundle_id[:12]
    yield good("bundle", f"{bundle_id} is whole, its golden pages differ by {difference:.2g}")
    yield from _check_store(settings, bundle)


def check_writing(settings: Settings) -> Iterator[Finding]:
    """Check the folder of the log of changed products, the only one that a server writes to."""
    folder = settings.changes
    if folder is None:
        return
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=nearest, prefix=".doctor-") as file:
            file.write(os.urandom(4_096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield broken(
            "changes",
            f"{folder}: got {error.strerror or error}, want a folder to write to",
            "name a folder on a disk with room that is mounted for writing and belongs to the"
            " server's user, or start without --changes",
        )
        return
    free = shutil.disk_usage(nearest).free
    if free < _ROOM_BYTES:
        yield broken(
            "changes",
            f"{folder}: got {free // 2**20} MiB of room, want {_ROOM_BYTES // 2**20} or more",
            "make room on this disk, or name a folder on another",
        )
        return
    yield good("changes", f"{folder}: can be written, {free // 2**30} GiB of room")


def _check_store(settings: Settings, bundle: Bundle) -> Iterator[Finding]:
    try:
        reranker = Reranker.open(settings.bundle, settings.products, threads=1)
    except RerankError as error:
        yield broken("products", str(error), _store_advice(settings, str(error)))
        yield from _check_policy(settings, None)
        return
    size = reranker.products.size
    if size == 0:
        yield warning("products", "got an empty store, want products", _build(settings))
    else:
        yield good("products", f"{size} products of bundle {bundle.manifest.bundle_id[:12]}")
    yield from _check_policy(settings, reranker)


def _check_policy(settings: Settings, reranker: Reranker | None) -> Iterator[Finding]:
    if settings.policy is None:
        return
    try:
        rules = read_policy(settings.policy)
        if reranker is not None:
            reranker.compile_policy(rules)
    except RerankError as error:
        yield broken(
            "policy",
            str(error),
            "mend the rule that is named; `crossrank policy check` tells when the file is right",
        )
        return
    yield good("policy", f"{rules.size} rules, version {rules.version[:12]}")


def _bundle_advice(folder: Path, error: str) -> str:
    if not folder.is_dir():
        return "name the folder that holds manifest.json by --bundle"
    if "format_version" in error:
        return "the bundle is of another release: export it again, or install that release"
    if "golden" in error:
        return (
            "onnxruntime of this machine computes otherwise than the trainer's: install the locked"
            " onnxruntime, or export the bundle again"
        )
    return _EXPORT


def _store_advice(settings: Settings, error: str) -> str:
    if not settings.products.is_dir():
        return (
            f"name the folder of the product store by --products, or build it: {_build(settings)}"
        )
    if "format_version" in error:
        return f"the store is of another release; build it again: {_build(settings)}"
    if "built with bundle" in error:
        return (
            f"name the bundle it was built with by --bundle, or build it again: {_build(settings)}"
        )
    return f"copy the folder again whole, or build it again: {_build(settings)}"


def _build(settings: Settings) -> str:
    return (
        f"crossrank store build --bundle {settings.bundle} --snapshot SNAPSHOT"
        f" --out {settings.products}"
    )

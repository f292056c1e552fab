"""Where a figure comes from: the command, the code, the time and the machine."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What decides figures; results and documents that a run itself writes are no change of the code.
_CODE = ("trainer", "rerank_server")
_LIBRARIES = ("paddlepaddle", "lightgbm", "implicit", "numpy", "onnxruntime", "polars")
# The modules that decide what a trained network scores.
NETWORK_CODE = (
    "baselines/gbdt",
    "baselines/late_fusion",
    "baselines/own_trees",
    "baselines/single_category",
    "baselines/teacher",
    "baselines/tree_nodes",
    "baselines/trees",
    "calibration/calibration",
    "calibration/choice",
    "calibration/isotonic",
    "encoding/batches",
    "encoding/catalogue",
    "encoding/page_draws",
    "encoding/pageset",
    "evaluation/bootstrap",
    "evaluation/metrics",
    "export/served_outputs",
    "guard/cells",
    "guard/fit",
    "guard/guard",
    "logs/labels",
    "model",
    "objectives",
    "tasks",
    "training/distributed",
    "training/fine_tuning",
    "training/gradient_balance",
    "training/losses",
    "training/network",
    "training/objective_losses",
    "training/run_pages",
    "training/starting_weights",
    "training/train",
    "training/validation",
)


def code_commit() -> str:
    """Return the commit of this code, with `+changes` where it was changed since.

    `unknown` outside a repository.
    """
    try:
        commit = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain", "--", *_CODE)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+changes" if changes else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def code_hash(sources: Iterable[str]) -> str:
    """Return a hash of modules of the trainer, such as `gbdt` or `model/ranker`.

    Comments and layout do not count. A folder stands for all of its modules.
    """
    digest = hashlib.sha256()
    for source in sources:
        path = ROOT / "trainer" / source
        files = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        for file in files:
            digest.update(ast.dump(ast.parse(file.read_text(encoding="utf-8"))).encode())
    return digest.hexdigest()


def command_line() -> str:
    """Return the command that this process was started with, for a reader to repeat."""
    return shlex.join(["python", *sys.orig_argv[1:]])


def shown_path(path: Path) -> str:
    """Return a path relative to the working folder where it lies below it, else as it is."""
    absolute, here = path.resolve(), Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(path)


def now() -> str:
    """Return the time (UTC), to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def installed_packages() -> list[str]:
    """Return every installed package as `name==version`, in order."""
    found = {
        f"{package.metadata['Name']}=={package.version}"
        for package in importlib.metadata.distributions()
    }
    return sorted(found, key=str.lower)


def describe_environment() -> dict[str, str]:
    """Return machine, Python and library versions."""
    described = {
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "system": platform.platform(),
        "Python": platform.python_version(),
    }
    for library in _LIBRARIES:
        try:
            described[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            described[library] = "not installed"
    return described

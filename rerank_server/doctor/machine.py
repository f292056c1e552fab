"""Checks of the machine: cores, memory, execution providers and the clock."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import onnxruntime

from rerank_server.contract.bundle import read_bundle
from rerank_server.contract.errors import RerankError
from rerank_server.cores import CGROUP, available_cores
from rerank_server.doctor.finding import Finding, broken, good, warning
from rerank_server.settings import Settings

_NVIDIA = Path("/dev/nvidia0")
_CUDA = "CUDAExecutionProvider"
# What Python, onnxruntime and the graphs take beside the product store.
_PROGRAM_BYTES = 300 * 2**20
_STA_UNSYNC = 0x40
_RELEASED = datetime(2025, 1, 1, tzinfo=UTC)


def check_cores(settings: Settings, cgroup: Path = CGROUP) -> Iterator[Finding]:
    """Check that the cores are as many as the settings share out."""
    cores = available_cores(cgroup)
    for name, wanted in (
        ("workers", settings.workers),
        ("scorer-threads", settings.scorer_threads),
    ):
        if wanted > cores:
            yield broken(
                "cores",
                f"--{name}: got {wanted}, want at most the {cores} cores of the container",
                f"leave --{name} out, or raise the CPU limit of the container to {wanted}",
            )
            return
    yield good("cores", f"{cores} cores for {settings.worker_count} workers")


def check_memory(settings: Settings, cgroup: Path = CGROUP) -> Iterator[Finding]:
    """Check that the product store fits the container's memory."""
    limit = _memory_limit(cgroup)
    if limit is None:
        return
    try:
        files = sum(path.stat().st_size for path in settings.products.rglob("*") if path.is_file())
    except OSError:
        return  # named by the check of the store
    if limit < _PROGRAM_BYTES:
        yield broken(
            "memory",
            f"got a limit of {limit // 2**20} MiB, want {_PROGRAM_BYTES // 2**20} or more",
            "raise the memory limit of the container",
        )
    elif files + _PROGRAM_BYTES > limit:
        yield warning(
            "memory",
            f"got {files // 2**20} MiB of products within {limit // 2**20} MiB of memory",
            "raise the memory limit: what does not fit is read from disk again and again",
        )
    else:
        yield good("memory", f"{files // 2**20} MiB of products within {limit // 2**20} MiB")


def check_provider(wanted: str | None, device: Path = _NVIDIA) -> Iterator[Finding]:
    """Check that onnxruntime has the execution provider that is wanted, by a part of its name."""
    available = onnxruntime.get_available_providers()
    have = ", ".join(available)
    gpu = (
        "pip uninstall --yes onnxruntime; pip install --force-reinstall --no-deps onnxruntime-gpu:"
        " both fill the same package, so only one may be installed"
    )
    if wanted is not None and not any(wanted.lower() in name.lower() for name in available):
        found = f"onnxruntime: got {have}, want {wanted}"
        advice = gpu if wanted.lower() in _CUDA.lower() else "install the build that has it"
        yield broken("provider", found, advice)
    elif device.exists() and _CUDA not in available:
        yield warning("provider", f"got a GPU at {device} and onnxruntime with {have} only", gpu)
    else:
        yield good("provider", have)


def check_clock(
    settings: Settings, now: datetime, *, synchronised: bool | None
) -> Iterator[Finding]:
    """Check the clock against the bundle's date and what the kernel says of it.

    Args:
        settings: Name the bundle.
        now: What the clock says.
        synchronised: Whether something keeps it right; None when that is unknown.
    """
    newest = _RELEASED
    try:
        created = datetime.fromisoformat(read_bundle(settings.bundle).manifest.created)
        newest = max(newest, created)
    except (RerankError, ValueError):
        pass  # named by the check of the bundle
    set_it = "set the clock and let chrony or systemd-timesyncd keep it"
    if now < newest:
        found = f"got {now:%Y-%m-%d %H:%M}, want a time after {newest:%Y-%m-%d %H:%M}"
        advice = f"{set_it}: histories, rules with times, tokens and certificates are read by it"
        yield broken("clock", f"{found}, when the bundle was written", advice)
    elif synchronised is False:
        yield warning("clock", "got a clock that nothing synchronises", set_it)
    else:
        yield good("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def clock_is_synchronised() -> bool | None:
    """Return whether the kernel's clock is kept right (adjtimex(2)); None where it cannot say."""
    if sys.platform != "linux":
        return None
    # struct timex: modes, then padded longs; status is the sixth of them
    buffer = (ctypes.c_long * 64)()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(buffer))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    status = ctypes.c_int.from_buffer(buffer, 5 * ctypes.sizeof(ctypes.c_long)).value
    return not status & _STA_UNSYNC


def _memory_limit(cgroup: Path) -> int | None:
    """Return the bytes that cgroup v2 or v1 allows; None when there is no limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (cgroup / name).read_text().strip()
        except OSError:
            continue
        limit = int(text) if text.isdigit() else None
        return limit if limit is not None and limit < 2**60 else None
    return None

"""Which matrix kernels Paddle takes on this processor; to be asked before Paddle is imported."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path

_VARIABLE = "MKL_DEBUG_CPU_TYPE"
_AVX2 = "5"


def prefer_fast_kernels(
    environment: MutableMapping[str, str], cpu_info: Path = Path("/proc/cpuinfo")
) -> None:
    """Let the MKL that Paddle carries take its AVX2 kernels on AMD processors too.

    By itself it takes its slowest kernels there; `python -m tests.benchmarks.kernels` measures
    the difference. A value that is already set is left alone.
    """
    if _VARIABLE in environment or not cpu_info.exists():
        return
    text = cpu_info.read_text(encoding="utf-8", errors="replace")
    if "AuthenticAMD" in text and " avx2 " in text:
        environment[_VARIABLE] = _AVX2

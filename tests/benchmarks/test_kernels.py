"""How long Paddle's matrix product takes with and without the choice of kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainer.kernels import prefer_fast_kernels

_PRODUCT = """
import time, warnings
warnings.simplefilter("ignore")
import paddle
a, b = paddle.randn([4096, 512]), paddle.randn([512, 512])
paddle.matmul(a, b)
begun = time.perf_counter()
for _ in range(20):
    paddle.matmul(a, b)
print(time.perf_counter() - begun)
"""


def _seconds(environment: dict[str, str]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _PRODUCT],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


@pytest.mark.slow
def test_chosen_kernels_against_default(benchmark: Any) -> None:
    plain = {name: value for name, value in os.environ.items() if name != "MKL_DEBUG_CPU_TYPE"}
    chosen = dict(plain)
    prefer_fast_kernels(chosen, Path("/proc/cpuinfo"))
    default = _seconds(plain)
    seconds = benchmark.pedantic(_seconds, args=(chosen,), rounds=1)
    benchmark.extra_info["ratio_to_default"] = seconds / default
    assert seconds > 0

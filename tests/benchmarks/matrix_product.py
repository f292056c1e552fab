"""One matrix product by Paddle in a process of its own, which alone can choose its kernels."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

VARIABLE = "MKL_DEBUG_CPU_TYPE"
_PRODUCT = """
import json, time, warnings
warnings.simplefilter("ignore")
import numpy as np
import paddle
random = np.random.default_rng(0)
a = paddle.to_tensor(random.standard_normal((4096, 512), np.float32))
b = paddle.to_tensor(random.standard_normal((512, 512), np.float32))
product = paddle.matmul(a, b).numpy()
begun = time.perf_counter()
for _ in range(20):
    paddle.matmul(a, b)
seconds = time.perf_counter() - begun
print(json.dumps({"seconds": seconds, "rows": product[::512].tolist()}))
"""


@dataclass(frozen=True, slots=True)
class Product:
    """What a process gave.

    Attributes:
        seconds: Of 20 products.
        rows: Eight rows of the product, shape (8, 512), float32.
    """

    seconds: float
    rows: np.ndarray


def default_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without a choice of kernels."""
    return {name: value for name, value in environment.items() if name != VARIABLE}


def matrix_product(environment: Mapping[str, str]) -> Product:
    """Multiply the same two random matrices under an environment."""
    done = subprocess.run(
        [sys.executable, "-c", _PRODUCT],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=True,
    )
    value = json.loads(done.stdout.splitlines()[-1])
    return Product(value["seconds"], np.array(value["rows"], np.float32))

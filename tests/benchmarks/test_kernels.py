"""The choice of kernels changes how long Paddle's matrix product takes, never what it gives."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.benchmarks.matrix_product import default_environment, matrix_product
from trainer.training.kernels import prefer_fast_kernels


@pytest.mark.slow
def test_chosen_kernels_give_the_product_that_numpy_gives() -> None:
    random = np.random.default_rng(0)
    left = random.standard_normal((4096, 512), np.float32)
    right = random.standard_normal((512, 512), np.float32)
    expected = left[::512].astype(np.float64) @ right.astype(np.float64)
    default = default_environment(os.environ)
    chosen = dict(default)
    prefer_fast_kernels(chosen)
    for environment in (default, chosen):
        rows = matrix_product(environment).rows
        # 512 terms of size 1: float32 rounds their sum by a few 1e-5
        np.testing.assert_allclose(rows, expected, rtol=0, atol=2e-4)

"""A training step of the ranker in Paddle and in PyTorch, by turns, on equal weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import paddle

from tests.benchmarks.throughput.growth import CONFIG
from trainer.config import TrainConfig, read_config
from trainer.encoding.batches import Batch, epoch_order, make_batch
from trainer.encoding.catalogue import Catalogue, read_catalogue
from trainer.encoding.encoded import EncodedLog, with_objectives
from trainer.model.ranker import Ranker
from trainer.pipeline import prepare_and_encode
from trainer.training.network import build_ranker, page_batch
from trainer.training.objective_losses import batch_losses
from trainer.training.run_pages import training_pages

_ROUNDS, _BATCHES = 7, 8
TOLERANCE = 1e-5


def measure_step(work: Path, threads: int) -> dict[str, Any]:
    """Return median seconds of a step of both, and PyTorch's over Paddle's.

    Raises:
        ImportError: PyTorch is not installed.
        ValueError: The two give other logits.
    """
    import torch  # type: ignore[import-not-found]  # noqa: PLC0415  not a dependency

    from tests.benchmarks.throughput.torch_ranker import TorchRanker  # noqa: PLC0415

    torch.set_num_threads(threads)
    # the size of the default network, on the tiny log
    config = replace(
        read_config(CONFIG), width=64, hidden=(128, 64), heads=4, number_bins=8,
        pages_per_batch=48, trees=False,
    )  # fmt: skip
    log = prepare_and_encode(CONFIG, config, work, progress=False)
    log = with_objectives(log, config.objectives)
    catalogue = read_catalogue(log.prepared)
    batches = _batches(config, log)
    ranker = build_ranker(config, log, catalogue)
    for parameter in ranker.parameters():  # adapters start at zero, where nothing would show
        parameter.set_value(parameter + 0.05 * paddle.randn(parameter.shape))
    twin = TorchRanker(ranker)
    ranker.eval()
    gap = 0.0
    for batch in batches:
        ours = ranker.scorer(page_batch(ranker, catalogue, batch)).numpy()
        theirs = np.asarray(twin.logits(catalogue, batch).tolist(), np.float32)
        gap = max(gap, float(np.abs(ours - theirs).max() / max(np.abs(ours).max(), 1.0)))
    if gap > TOLERANCE:
        raise ValueError(f"logits: got a relative difference of {gap:.1e}, want {TOLERANCE:.0e}")
    steps = {
        "paddle": _paddle_step(config, ranker, catalogue),
        "pytorch": _torch_step(config, twin, catalogue),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(_ROUNDS + 1):
        for name, step in steps.items():
            began = perf_counter()
            for batch in batches:
                step(batch)
            if round_number:  # the first warms up
                seconds[name].append((perf_counter() - began) / len(batches))
    ratios = [b / a for a, b in zip(seconds["paddle"], seconds["pytorch"], strict=True)]
    return {
        "threads": threads,
        "pages_per_batch": config.pages_per_batch,
        "candidates_per_batch": int(np.mean([batch.mask.size for batch in batches])),
        "largest_difference_of_logits": float(f"{gap:.1e}"),
        "paddle": paddle.__version__,  # type: ignore[attr-defined]
        "pytorch": torch.__version__,
        "paddle_ms": round(1e3 * median(seconds["paddle"]), 2),
        "pytorch_ms": round(1e3 * median(seconds["pytorch"]), 2),
        "paddle_speed_over_pytorch": round(median(ratios), 3),
        "rounds": [round(ratio, 3) for ratio in ratios],
    }


def _batches(config: TrainConfig, log: EncodedLog) -> list[Batch]:
    order = epoch_order(log, training_pages(config, log), config.pages_per_batch, 1.0, (1, 0))
    random = np.random.default_rng(0)
    return [
        make_batch(log, pages, most=config.candidates_per_page, random=random)
        for pages in order[:_BATCHES]
    ]


def _paddle_step(
    config: TrainConfig, ranker: Ranker, catalogue: Catalogue
) -> Callable[[Batch], None]:
    optimiser = paddle.optimizer.AdamW(
        learning_rate=config.learning_rate,
        parameters=ranker.parameters(),
        weight_decay=config.weight_decay,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0),
    )

    def step(batch: Batch) -> None:
        ranker.train()
        loss = batch_losses(config, ranker.scorer(page_batch(ranker, catalogue, batch)), batch)
        loss["loss"].backward()
        float(loss["loss"])
        optimiser.step()
        optimiser.clear_grad()

    return step


def _torch_step(config: TrainConfig, twin: Any, catalogue: Catalogue) -> Callable[[Batch], None]:
    import torch  # noqa: PLC0415

    from tests.benchmarks.throughput.torch_ranker import batch_loss  # noqa: PLC0415

    weights = list(twin.weights.values())
    optimiser = torch.optim.AdamW(
        weights, lr=config.learning_rate, weight_decay=config.weight_decay, foreach=True
    )

    def step(batch: Batch) -> None:
        twin.training = True
        loss = batch_loss(config, twin.logits(catalogue, batch), batch)
        loss.backward()
        float(loss)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step

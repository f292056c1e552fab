"""Which categories teach which: how far a step on one's pages lowers the loss of another's.

The affinity of Fifty et al. 2021 (TAG, eq. 2), Z(i -> j) = 1 - L_j(theta after a step on i) /
L_j(theta), to first order: a step of length r against g_i changes L_j by -r g_i . g_j, so
Z(i -> j) = r g_i . g_j / L_j. It is measured at every evaluation of one training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle

from trainer.atomic_text import write_text
from trainer.config import TrainConfig
from trainer.encoding.batches import make_batch
from trainer.encoding.catalogue import Catalogue
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.pageset import Doubles, Integers
from trainer.errors import TransferError
from trainer.model.ranker import Ranker
from trainer.training.checkpoint import CHECKPOINT
from trainer.training.fine_tuning import is_of_categories
from trainer.training.network import build_ranker, page_batch
from trainer.training.objective_losses import batch_losses

AFFINITY = "affinity.jsonl"
_STEP_NORM = 1.0  # training clips gradients to it
_OWN_TABLE = "products._identity."


@dataclass(frozen=True, slots=True)
class Affinities:
    """What was measured through a training.

    Attributes:
        names: Of the categories.
        steps: Of the evaluations.
        values: Shape (evaluations, teachers, taught); more than 0 teaches, less hurts.
    """

    names: tuple[str, ...]
    steps: tuple[int, ...]
    values: Doubles

    def mean(self) -> Doubles:
        """Return the mean over the evaluations, shape (teachers, taught)."""
        means: Doubles = self.values.mean(axis=0)
        return means


class AffinityMeter:
    """Measures at the checkpoints of a run, each once, also of a run that was stopped."""

    def __init__(
        self,
        config: TrainConfig,
        log: EncodedLog,
        catalogue: Catalogue,
        folder: Path,
        pages: Mapping[str, Integers],
    ) -> None:
        """Compare the categories named in `pages`, by these pages of the log, in `folder`."""
        self._config, self._log, self._catalogue = config, log, catalogue
        self._folder, self._pages = folder, dict(pages)
        self._ranker: Ranker | None = None

    def measure(self) -> None:
        """Add a line to the folder's `affinity.jsonl`, unless its checkpoint has one."""
        state = paddle.load(str(self._folder / CHECKPOINT))
        step = int(state["progress"][0])
        path = self._folder / AFFINITY
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        lines = [line for line in lines if json.loads(line)["step"] <= step]
        measured = {json.loads(line)["step"] for line in lines}
        if step in measured:
            return
        if self._ranker is None:
            self._ranker = build_ranker(self._config, self._log, self._catalogue)
        self._ranker.set_state_dict(state["network"])
        values = gradient_affinity(
            self._config, self._ranker, self._catalogue, self._log, self._pages
        )
        line = {"step": step, "names": list(self._pages), "affinity": values.tolist()}
        write_text(path, "".join(f"{kept}\n" for kept in [*lines, json.dumps(line)]))


def read_affinities(folder: Path) -> Affinities:
    """Read what a run's folder holds.

    Raises:
        TransferError: When nothing was measured there.
    """
    path = folder / AFFINITY
    if not path.exists():
        raise TransferError(
            f"affinity: got no {path}, want a source training with affinity_pages above 0"
        )
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return Affinities(
        names=tuple(lines[0]["names"]),
        steps=tuple(line["step"] for line in lines),
        values=np.array([line["affinity"] for line in lines]),
    )


def gradient_affinity(
    config: TrainConfig,
    ranker: Ranker,
    catalogue: Catalogue,
    log: EncodedLog,
    pages: Mapping[str, Integers],
) -> Doubles:
    """Return Z(i -> j) for a step of the training's length on the parameters that are shared.

    Left out are what categories have of their own, and the vectors of single products.

    Args:
        config: Names the loss and the step: `learning_rate` against a gradient clipped to norm 1.
        ranker: At the weights to measure at; its mode is set to training.
        catalogue: Inputs of the product tower.
        log: The log that the pages are of.
        pages: Page numbers of each category.

    Returns:
        Shape (categories, categories), in the order of `pages`.
    """
    gradients, losses = [], []
    parameters = {
        name: value
        for name, value in ranker.named_parameters()
        if not is_of_categories(name) and not name.startswith(_OWN_TABLE)
    }
    ranker.train()
    for chosen in pages.values():
        paddle.seed(config.seed)  # the same dropout for all
        ranker.clear_gradients()
        batch = make_batch(
            log, chosen, most=config.candidates_per_page, random=np.random.default_rng(config.seed)
        )
        loss = batch_losses(config, ranker.scorer(page_batch(ranker, catalogue, batch)), batch)
        loss["loss"].backward()
        losses.append(float(loss["loss"]))
        gradients.append(
            np.concatenate(
                [
                    (np.zeros(p.shape) if p.grad is None else p.grad.numpy()).ravel()
                    for p in parameters.values()
                ]
            ).astype(np.float64)
        )
    ranker.clear_gradients()
    return affinity_of(np.stack(gradients), np.array(losses), config.learning_rate)


def affinity_of(gradients: Doubles, losses: Doubles, rate: float) -> Doubles:
    """Return r_i g_i . g_j / L_j, r_i being `rate` over the norm of g_i where that is above 1.

    Args:
        gradients: Shape (categories, parameters).
        losses: Shape (categories,), > 0.
        rate: Length of a step.
    """
    norms = np.sqrt((gradients * gradients).sum(axis=1))
    rates = rate / np.maximum(norms / _STEP_NORM, 1.0)
    affinity: Doubles = rates[:, None] * (gradients @ gradients.T) / losses[None, :]
    return affinity


def teaching_sources(affinities: Affinities, target: str, sources: list[str]) -> list[str]:
    """Return the sources whose steps lower the target's loss, on average over the training.

    Raises:
        TransferError: When none does.
    """
    taught = affinities.mean()[:, affinities.names.index(target)]
    helps = {name for name, value in zip(affinities.names, taught, strict=True) if value > 0}
    chosen = [name for name in sources if name in helps]
    if not chosen:
        raise TransferError(
            f"sources: got none of {', '.join(sources)} whose gradients help {target!r}, want "
            "at least one; --sources all takes them all the same"
        )
    return chosen

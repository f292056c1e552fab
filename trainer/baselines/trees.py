"""LambdaMART over the training pages of one surface, trained once for all who ask."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace

import numpy as np

from rerank_server.contract.schema import Normaliser
from trainer.baselines.gbdt import Gbdt, GbdtBudget, read_gbdt, train_gbdt, write_gbdt
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.pageset import encoded_pages

_ROWS_FOR_THREADS = 100_000  # on fewer, threads wait for each other longer than they work


def surface_trees(log: EncodedLog, surface: str, budget: GbdtBudget, *, every: int = 1) -> Gbdt:
    """Return trees on raw features, the baseline, or those of an equal earlier call.

    They lie beside the encoded log, named by it and by all that they depend on.

    Args:
        log: The encoded log.
        surface: Whose pages they learn from.
        budget: What training may spend.
        every: They learn from every so many-th training page.

    Raises:
        GbdtError: When training or validation holds no page with a positive.
    """
    return _kept(log, surface, budget, every, None)


def normalised_trees(log: EncodedLog, surface: str, budget: GbdtBudget, *, every: int = 1) -> Gbdt:
    """Return trees on what the scorer graph reads, kept and trained as in `surface_trees`."""
    return _kept(log, surface, budget, every, Normaliser(log.schema))


def _kept(
    log: EncodedLog, surface: str, budget: GbdtBudget, every: int, normaliser: Normaliser | None
) -> Gbdt:
    # LightGBM gives the same trees with any number of threads (`deterministic`)
    spent = {name: value for name, value in asdict(budget).items() if name != "threads"}
    settings = json.dumps([log.folder.name, log.schema.objectives, spent, every])
    key = hashlib.sha256(settings.encode()).hexdigest()[:12]
    kind = "raw" if normaliser is None else "normalised"
    path = log.folder.parent / "trees" / f"{surface}-{kind}-{key}.txt"
    if path.exists():
        return read_gbdt(path, normaliser)
    train = encoded_pages(log, "train", surface)
    if every > 1:
        train = train.select(np.arange(train.pages) % every == 0)
    if train.candidates < _ROWS_FOR_THREADS:
        budget = replace(budget, threads=1)
    held = encoded_pages(log, "validation", surface)
    model = train_gbdt(train, held, log.schema.objectives[0], budget, normaliser=normaliser)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_gbdt(model, path)
    return model

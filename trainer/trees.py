"""LambdaMART over the training pages of one surface, trained once for all who ask."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

import numpy as np

from trainer.encoded import EncodedLog
from trainer.gbdt import Gbdt, GbdtBudget, read_gbdt, train_gbdt, write_gbdt
from trainer.pageset import encoded_pages


def surface_trees(log: EncodedLog, surface: str, budget: GbdtBudget, *, every: int = 1) -> Gbdt:
    """Return trees trained on every `every`-th training page, or those of an equal earlier call.

    They lie beside the encoded log, named by it and by all that they depend on.

    Raises:
        GbdtError: When training or validation holds no page with a positive.
    """
    settings = json.dumps([log.folder.name, log.schema.objectives, asdict(budget), every])
    key = hashlib.sha256(settings.encode()).hexdigest()[:12]
    path = log.folder.parent / "trees" / f"{surface}-{key}.txt"
    if path.exists():
        return read_gbdt(path)
    train = encoded_pages(log, "train", surface)
    if every > 1:
        train = train.select(np.arange(train.pages) % every == 0)
    held = encoded_pages(log, "validation", surface)
    model = train_gbdt(train, held, log.schema.objectives[0], budget)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_gbdt(model, path)
    return model

"""Gives a training run heads for objectives that it had not, so that another can start from it.

A network that learned purchases knows most of what is clicked, while a fresh head knows nothing of
it: the head of a new objective starts as a copy of the run's first one.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deploy.loop.errors import LearningError
from trainer.atomic_text import write_text

# Parameters whose last axis is the objectives.
_OF_OBJECTIVES = re.compile(r"scorer\._(heads|direct)\.(weight|bias)|scorer\._affine\..*\.weight")


def with_further_heads(run: Path, objectives: Sequence[str], out: Path) -> Path:
    """Return a run to start from that has a head for each objective.

    Args:
        run: Folder of a training run.
        objectives: Those wanted.
        out: Folder that takes the run with further heads; not written where `run` has them all.

    Raises:
        LearningError: When there is no such run.
    """
    from trainer.training.checkpoint import BEST, CHECKPOINT, read_weights, save_atomically  # noqa: PLC0415
    from trainer.training.starting_weights import NAMES  # noqa: PLC0415  Paddle takes seconds

    try:
        names = json.loads((run / NAMES).read_text(encoding="utf-8"))
        known = list(names["schema"]["objectives"])
    except (OSError, ValueError, KeyError) as error:
        raise LearningError(
            f"{run}: got {error!r}, want a run that wrote down its names ({NAMES})"
        ) from error
    new = [name for name in objectives if name not in known]
    if not new:
        return run
    weights = read_weights(run / BEST)
    for name, values in weights.items():
        if _OF_OBJECTIVES.fullmatch(name):
            weights[name] = np.concatenate([values, *[values[..., :1]] * len(new)], axis=-1)
    out.mkdir(parents=True, exist_ok=True)
    save_atomically(weights, out / BEST)
    shutil.copyfile(run / CHECKPOINT, out / CHECKPOINT)  # its constants are what is read
    names["schema"]["objectives"] = known + new
    write_text(out / NAMES, json.dumps(names))
    return out

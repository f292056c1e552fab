"""The weights a run starts from: those of another run, carried over by the names of their rows.

A parameter is found by its own name. Where its rows (or columns) belong to names, of categories,
products or objectives, each goes to the place that its name has in the new network; names that
the other run did not know start neutral.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import paddle

from rerank_server.contract.schema import Schema, schema_from_json, schema_to_json
from rerank_server.contract.vocabulary import (
    Vocabulary,
    vocabulary_from_json,
    vocabulary_to_json,
)
from trainer.atomic_text import write_text
from trainer.encoding.encoded import EncodedLog
from trainer.errors import TrainingError
from trainer.model.ranker import Ranker
from trainer.training.checkpoint import BEST, read_buffers, read_weights

NAMES = "names.json"
Weights: TypeAlias = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Start:
    """What another run leaves to start from.

    Attributes:
        folder: The run's.
        schema: What its features, categories and objectives are.
        vocabulary: What the rows of its product tower are.
        weights: Parameters by name, averaged, of its best evaluation.
        buffers: Constants by name that the parameters were trained with.
    """

    folder: Path
    schema: Schema
    vocabulary: Vocabulary
    weights: Weights
    buffers: Weights


def write_names(folder: Path, schema: Schema, vocabulary: Vocabulary) -> None:
    """Write down what the rows of a run's parameters are, once."""
    if not (folder / NAMES).exists():
        names = {"schema": schema_to_json(schema), "vocabulary": vocabulary_to_json(vocabulary)}
        write_text(folder / NAMES, json.dumps(names))


def read_start(folder: Path) -> Start:
    """Read what a run has left.

    Raises:
        TrainingError: When there is no run, one without an evaluation, or one whose names were
            not written.
    """
    for name in (BEST, NAMES):
        if not (folder / name).is_file():
            raise TrainingError(
                f"start_from: got {folder} without {name}, want the folder of a run that was "
                "evaluated at least once"
            )
    names = json.loads((folder / NAMES).read_text(encoding="utf-8"))
    return Start(
        folder=folder,
        schema=schema_from_json(names["schema"]),
        vocabulary=vocabulary_from_json(names["vocabulary"]),
        weights=read_weights(folder / BEST),
        buffers=read_buffers(folder),
    )


def with_scales_of(start: Start, log: EncodedLog) -> EncodedLog:
    """Return the log with its features on the scales that `start` was trained with.

    Raises:
        TrainingError: When the log has other features.
    """
    check_features(start, log.schema)
    return replace(log, schema=replace(log.schema, features=start.schema.features))


def check_features(start: Start, schema: Schema) -> None:
    """Refuse a start of another schema: the same features in the same order are wanted.

    Raises:
        TrainingError: Names what differs.
    """
    got, want = start.schema.feature_names, schema.feature_names
    if got != want:
        differing = sorted(set(got) ^ set(want)) or ["their order"]
        raise TrainingError(
            f"start_from: got {start.folder} of another schema, {len(got)} features, want the "
            f"{len(want)} of this log; they differ in {', '.join(differing[:5])}"
        )


def start_from(start: Start, ranker: Ranker, schema: Schema, vocabulary: Vocabulary) -> Weights:
    """Set every parameter of `ranker` from `start`, and return them by name.

    A category that `start` does not know scores as slot 0 does, the category never seen: its
    adapter, scale and bias change nothing. A new node, attribute or product of the vocabulary
    starts as the mean of those that are known, a new objective as in a fresh network.

    Raises:
        TrainingError: When `start` is of another schema, or of a network of another shape.
    """
    check_features(start, schema)
    fresh = {name: value.numpy() for name, value in ranker.named_parameters()}
    if "scorer._heads._weight" in fresh and start.schema.objectives != schema.objectives:
        raise TrainingError(
            f"start_from: got {start.folder} with the objectives"
            f" {', '.join(start.schema.objectives)}, want {', '.join(schema.objectives)}: experts"
            " of a gate are not carried over by the names of objectives"
        )
    if start.weights.keys() != fresh.keys():
        differing = sorted(start.weights.keys() ^ fresh.keys())
        raise _another_network(start, differing)
    if _rank(start.weights, start.schema) != _rank(fresh, schema):
        raise _another_network(start, ["the rank of the adapters"])
    carried = {}
    for name, values in fresh.items():
        carried[name] = _carry(start, name, values, schema, vocabulary)
        if carried[name].shape != values.shape:
            raise _another_network(start, [name])
    for name, parameter in ranker.named_parameters():
        parameter.set_value(carried[name])
    _set_buffers(start, ranker)
    return carried


def _rank(weights: Weights, schema: Schema) -> int:
    adapters = weights.get("scorer._layers.0._up.weight")
    return 0 if adapters is None else adapters.shape[0] // len(schema.categories)


def _another_network(start: Start, differing: list[str]) -> TrainingError:
    return TrainingError(
        f"start_from: got {start.folder} of another network, which differs in "
        f"{', '.join(differing[:5])}; want the same widths, rank and layers"
    )


def _set_buffers(start: Start, ranker: Ranker) -> None:
    """Take over the bins of the number encoding: its weights mean nothing with others."""
    for name, buffer in ranker.named_buffers():
        if name.startswith("scorer._numbers."):
            buffer.set_value(paddle.to_tensor(start.buffers[name]))


_Neutral: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _as_row_0(known: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    return np.broadcast_to(known[0], fresh.shape).copy()


def _as_mean(known: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """Return the mean of the known rows, row 0, the unknown one, left out."""
    rows = known[1:] if known.shape[0] > 1 else known
    return np.broadcast_to(rows.mean(axis=0), fresh.shape).copy()


def _as_fresh(known: np.ndarray, fresh: np.ndarray) -> np.ndarray:  # noqa: ARG001  one signature
    return fresh.copy()


# Parameter -> (axis, whose names its rows are, how a row without a known name starts). A fresh
# adapter's second half, a fresh scale and a fresh bias are zero, so these are neutral.
_NAMED: tuple[tuple[str, tuple[tuple[int, str, _Neutral], ...]], ...] = (
    (r"products\._category\.weight", ((0, "categories", _as_row_0),)),
    (r"products\._levels\.\d+\.weight", ((0, "levels", _as_mean),)),
    (r"products\._attributes\.\d+\.weight", ((0, "attributes", _as_mean),)),
    (r"products\._identity\.weight", ((0, "identities", _as_mean),)),
    (r"scorer\._surface\.weight", ((0, "surfaces", _as_mean),)),
    (r"scorer\._layers\.\d+\._down\.weight", ((1, "adapters", _as_fresh),)),
    (r"scorer\._layers\.\d+\._up\.weight", ((0, "adapters", _as_fresh),)),
    (r"scorer\._layers\.\d+\._bias\.weight", ((0, "categories", _as_fresh),)),
    (
        r"scorer\._affine\._(scale|bias)\.weight",
        ((0, "categories", _as_fresh), (1, "objectives", _as_fresh)),
    ),
    (r"scorer\._(heads|direct)\.(weight|bias)", ((-1, "objectives", _as_fresh),)),
)


def _carry(
    start: Start, name: str, fresh: np.ndarray, schema: Schema, vocabulary: Vocabulary
) -> np.ndarray:
    """Return one parameter of `start`, its rows where the new network has their names."""
    values = start.weights[name]
    for pattern, axes in _NAMED:
        if re.fullmatch(pattern, name):
            for axis, kind, neutral in axes:
                old = _names(kind, name, start.schema, start.vocabulary, values.shape[axis])
                new = _names(kind, name, schema, vocabulary, fresh.shape[axis])
                if old == new:
                    continue
                values = _by_name(values, old, fresh, new, axis, neutral)
    return values


def _by_name(
    known: np.ndarray,
    old: Sequence[str],
    fresh: np.ndarray,
    new: Sequence[str],
    axis: int,
    neutral: _Neutral,
) -> np.ndarray:
    known, fresh = np.moveaxis(known, axis, 0), np.moveaxis(fresh, axis, 0)
    places = {name: row for row, name in enumerate(old)}
    rows = np.array([places.get(name, -1) for name in new])
    if known.shape[1:] != fresh.shape[1:]:  # a second named axis, or another width
        shape = (fresh.shape[0], *known.shape[1:])
        values = neutral(known, np.zeros(shape, known.dtype))
    else:
        values = neutral(known, fresh)
    values[rows >= 0] = known[rows[rows >= 0]]
    return np.moveaxis(values, 0, axis)


def _names(
    kind: str, parameter: str, schema: Schema, vocabulary: Vocabulary, size: int
) -> tuple[str, ...]:
    """Return the names of an axis; its row 0, where that is the unknown one, is the empty name."""
    if kind == "adapters":  # each category has `rank` of them
        rank = size // len(schema.categories)
        return tuple(f"{row}/{name}" for name in schema.categories for row in range(rank))
    if kind in {"levels", "attributes"}:
        table = int(re.findall(r"\d+", parameter)[0])
        return ("", *getattr(vocabulary, kind)[table])
    if kind == "identities":
        return ("", *vocabulary.identities)
    names: tuple[str, ...] = getattr(schema, kind)
    return names

"""An encoded log: the arrays the network and the baselines are given, cached by content."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rerank_server import contract
from rerank_server.contract.atomic import atomic_folder
from rerank_server.contract.page import SECONDS_PER_DAY
from rerank_server.contract.schema import Schema, schema_from_json, schema_to_json
from trainer.encoding.dataset import Prepared
from trainer.encoding.features import (
    ENCODING_VERSION,
    PageSelection,
    encode_log,
    fit_past,
    fit_scales,
    log_schema,
    select_pages,
)
from trainer.encoding.streamed_pages import (
    ROW_COLUMNS,
    chosen_columns,
    give_back,
    write_row_columns,
)
from trainer.logs.labels import Label
from trainer.objectives import (
    Head,
    Objective,
    counted_candidates,
    heads_of,
    never_reads_history,
    objective_named,
    served_candidates,
)

SPLITS = ("train", "validation", "test")
NEVER_BOUGHT_FEATURE = "own_count"
_SCALE_ROWS = 400_000


@dataclass(frozen=True, slots=True)
class EncodedLog:
    """Pages of a log with their features.

    Attributes:
        folder: Where the arrays lie.
        prepared: The log.
        schema: With fitted scales.
        selection: Which pages, and which of their candidates.
        dense: Raw features, shape (rows, features), NaN is missing, memory-mapped.
        sequence_rows: Product rows of the events, shape (pages, events), -1 is padding.
        sequence_features: Shape (pages, events, features).
        labels: Shape (rows, objectives); 0 or 1 where every objective is binary. Memory-mapped
            as `rows` and `categories` are.
        rows: Product row of each candidate, shape (rows,).
        categories: Category row of each candidate, shape (rows,).
        splits: Index into `SPLITS` of each page.
        heads: What is learned, in the order of the columns of `labels`; empty before
            `with_objectives` has said it.
    """

    folder: Path
    prepared: Prepared
    schema: Schema
    selection: PageSelection
    dense: np.ndarray
    sequence_rows: np.ndarray
    sequence_features: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    categories: np.ndarray
    splits: np.ndarray
    heads: tuple[Head, ...] = ()

    @property
    def offsets(self) -> np.ndarray:
        """Where each page's candidates start, shape (pages + 1,)."""
        return self.selection.offsets

    def pages_of(self, split: str, surface: str) -> np.ndarray:
        """Return the numbers of the pages of one split and surface."""
        wanted = (self.splits == SPLITS.index(split)) & (
            self.selection.surfaces == self.schema.surfaces.index(surface)
        )
        return np.flatnonzero(wanted)

    def give_back(self) -> None:
        """Take the rows that were read out of the process's resident memory."""
        give_back(self.dense, self.sequence_rows, self.sequence_features)
        give_back(self.labels, self.rows, self.categories)


def with_objectives(log: EncodedLog, objectives: Sequence[str | Objective]) -> EncodedLog:
    """Return the log with the labels and heads of these objectives only, in this order.

    Args:
        log: The log as encoded.
        objectives: A name alone stands for `objective_named`.

    Raises:
        ConfigError: When the log does not have one of them, or they do not fit together.
    """
    wanted = [objective_named(one) if isinstance(one, str) else one for one in objectives]
    names = tuple(objective.name for objective in wanted)
    heads = heads_of(wanted, labels_of(log))
    columns = [log.schema.objectives.index(name) for name in names]
    labels = chosen_columns(log.labels, columns)
    chosen = replace(log, schema=replace(log.schema, objectives=names), labels=labels)
    return replace(chosen, heads=_scaled(chosen, heads))


def labels_of(log: EncodedLog) -> dict[str, Label]:
    """Return what each of the log's labels is, by the objective's name."""
    told = {label["name"]: Label(**label) for label in log.prepared.manifest.get("labels", [])}
    return {name: told.get(name, Label(name)) for name in log.schema.objectives}


def heads_of_log(log: EncodedLog) -> tuple[Head, ...]:
    """Return the heads of a log: those it was given, else what its objectives' names stand for."""
    if log.heads:
        return log.heads
    known = labels_of(log)
    return tuple(Head(objective_named(name), known[name]) for name in log.schema.objectives)


def _scaled(log: EncodedLog, heads: tuple[Head, ...]) -> tuple[Head, ...]:
    """Return the heads with the scale of each amount, from training candidates."""
    if not any(head.amount for head in heads):
        return heads
    train = np.repeat(log.splits == SPLITS.index("train"), np.diff(log.offsets))
    scaled = []
    for index, head in enumerate(heads):
        some = log.labels[train, index]
        some = some[some > 0]
        wanted = head.label.type != "count" and some.size > 0
        scaled.append(replace(head, scale=float(some.mean(dtype=np.float64))) if wanted else head)
    return tuple(scaled)


def bought_before(log: EncodedLog, rows: np.ndarray) -> np.ndarray | None:
    """Return which rows hold what the shopper bought before; None where no head asks."""
    if never_reads_history(heads_of_log(log)):
        return None
    own: np.ndarray = log.dense[rows, log.schema.feature_names.index(NEVER_BOUGHT_FEATURE)]
    bought: np.ndarray = own != 0
    return bought


def counted_rows(log: EncodedLog, rows: np.ndarray) -> np.ndarray:
    """Return which of `rows` say something of each head's own output, shape (rows, objectives)."""
    return counted_candidates(heads_of_log(log), log.labels[rows], bought_before(log, rows))


def served_rows(log: EncodedLog, rows: np.ndarray) -> np.ndarray:
    """Return which of `rows` say something of what each head serves, shape (rows, objectives)."""
    return served_candidates(heads_of_log(log), log.labels[rows], bought_before(log, rows))


def cutoff_days(prepared: Prepared, every: int) -> list[int]:
    """Return the days of the collaborative fits: the first page's, then each `every` days."""
    days = prepared.page_times // SECONDS_PER_DAY
    return list(range(int(days.min()), int(days.max()) + 1, every))


def encode(
    prepared: Prepared, surfaces: tuple[str, ...], refit_days: int, cache: Path
) -> EncodedLog:
    """Encode the log's pages, or read what an equal earlier call has written.

    The folder's name is a hash of everything its content depends on; it appears only when
    all of it is written.
    """
    key = hashlib.sha256(
        json.dumps(
            [ENCODING_VERSION, prepared.content_hash, sorted(surfaces), refit_days, _code_hash()]
        ).encode()
    ).hexdigest()[:16]
    folder = cache / f"encoded-{key}"
    if not folder.exists():
        with atomic_folder(folder) as unfinished:
            _write(prepared, surfaces, refit_days, unfinished)
    return read_encoded(prepared, folder)


# The modules of the contract that decide what a feature is, and those of the trainer.
_CONTRACT_SOURCES = (
    "collaborative",
    "feature_list",
    "features",
    "history",
    "keyed",
    "page",
    "schema",
)
_TRAINER_SOURCES = ("collaborative", "counts", "features")


def _code_hash() -> str:
    """Hash the code that decides what a feature is, so that no stale feature is reused.

    Comments and layout do not count.
    """
    folders = {
        Path(contract.__path__[0]): _CONTRACT_SOURCES,
        Path(__file__).parent: _TRAINER_SOURCES,
    }
    digest = hashlib.sha256()
    for folder, names in folders.items():
        for name in names:
            source = (folder / f"{name}.py").read_text(encoding="utf-8")
            digest.update(ast.dump(ast.parse(source)).encode())
    return digest.hexdigest()


def _write(prepared: Prepared, surfaces: tuple[str, ...], refit_days: int, folder: Path) -> None:
    selection = select_pages(prepared, surfaces)
    past = fit_past(prepared, cutoff_days(prepared, refit_days))
    schema = log_schema(prepared)
    encode_log(prepared, past, schema, selection, folder)
    for name in ("pages", "surfaces", "offsets", "candidates"):
        np.save(folder / f"{name}.npy", getattr(selection, name))
    write_row_columns(prepared, selection.candidates, folder)
    splits = prepared.page_splits[selection.pages]
    of_rows = np.repeat(splits, np.diff(selection.offsets))
    train = np.flatnonzero(of_rows == SPLITS.index("train"))
    step = max(train.size // _SCALE_ROWS, 1)
    schema = fit_scales(schema, np.load(folder / "dense.npy", mmap_mode="r"), train[::step])
    (folder / "schema.json").write_text(json.dumps(schema_to_json(schema), indent=1))


def read_encoded(prepared: Prepared, folder: Path) -> EncodedLog:
    """Read an encoded folder, large arrays memory-mapped."""
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    selection = PageSelection(
        *(np.asarray(arrays[name]) for name in ("pages", "surfaces", "offsets", "candidates"))
    )
    if all(name in arrays for name in ROW_COLUMNS):
        columns = {name: np.asarray(arrays[name]) for name in ROW_COLUMNS}
    else:  # a folder of before these columns were written
        rows = prepared.candidate_rows[selection.candidates]
        columns = {
            "labels": prepared.candidate_labels[selection.candidates],
            "rows": rows,
            "categories": prepared.product_categories[rows],
        }
    return EncodedLog(
        folder=folder,
        prepared=prepared,
        schema=schema_from_json(json.loads((folder / "schema.json").read_text())),
        selection=selection,
        dense=arrays["dense"],
        sequence_rows=arrays["sequence_rows"],
        sequence_features=arrays["sequence_features"],
        labels=columns["labels"],
        rows=columns["rows"],
        categories=columns["categories"],
        splits=prepared.page_splits[selection.pages],
    )

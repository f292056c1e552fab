"""The configuration of one training run: a flat TOML file, refused when a key is unknown."""

from __future__ import annotations

import math
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rerank_server.contract.errors import nearest
from trainer.errors import ConfigError
from trainer.objectives import (
    Objective,
    contradictions,
    objective_named,
    unknown_givens,
)
from trainer.toml_tables import read_tables


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One run.

    Attributes:
        name: Names the run's folder.
        log: The log's TOML file, relative to this one.
        seed: Of weights, order of pages and dropout.
        objectives: The heads that are trained, in output order.
        objective_weights: Share of each head in the loss.
        objective: The same as tables, which say more: `[[objective]]` instead of both lists.
        gate: How heads share the last layer: `shared` by all, or a mixture of experts of its own
            for each (`mmoe`), or with experts of its own besides the shared (`ple`).
        experts: Shared experts of a gate.
        surfaces: Pages trained on; `discovery` is made from the search pages.
        categories: Train and validate on pages of these categories alone; empty takes all.
        width: Of product, query and shopper vectors.
        hidden: Widths of the adapted layers.
        rank: Of the category adapters; 0 leaves them out.
        adapter: Whether they add to the shared weights, `low_rank`, or multiply them, `star`.
        heads: Of attention.
        page_layers: Blocks of attention over the page.
        number_bins: Bins of the encoding of dense features; 0 leaves it out.
        dropout: Share of hidden units.
        modality_dropout: Share of product modalities.
        left_out_modalities: Product modalities that the network is blind to.
        shopper_sequence: Read the shopper's events.
        sequence: By what: target `attention` over an LSTM's states, or the last state of a `gru`,
            an `lstm` or a `transformer`.
        pages_per_batch: Pages of one step.
        candidates_per_page: Candidates of a training page at most, positives first and then
            others at random; 0 takes all.
        epochs: Passes over the training pages at most.
        learning_rate: Peak of AdamW's, after warm-up; cosine from there to a twentieth.
        warmup_share: Share of all steps that the rate rises for.
        weight_decay: AdamW's.
        pointwise_weight: Share of the pointwise loss.
        teacher_share: Share of the trees' targets in the purchase loss.
        trees: Add the trees' score to the network's, weighted by what validation pages say.
        trees_every: Trees learn from every so many-th training page.
        category_power: Pages of a category of n pages are drawn with n to this power.
        average_decay: Of the moving average of weights that is evaluated and exported.
        evaluations_per_epoch: Evaluations on validation pages, each a checkpoint.
        patience: Evaluations without a better one before the run stops.
        validation_pages: Pages per surface an evaluation takes at most, evenly spread.
        refit_days: Days between fits of item-kNN and ALS.
        mlflow: Address of an MLflow tracking server, `sqlite:///FILE` or a folder, which the run
            is sent to; empty sends nothing.
        max_pages: Training pages per surface at most; 0 takes all.
        start_from: Folder of another run whose weights this one starts from, beside this run's
            own or absolute; empty starts fresh.
        train_only: What a run that starts from another trains: `all`, or the `adapters`, scale and
            bias of categories with everything shared frozen.
        frozen_share: Share of the first steps in which these alone are trained.
        l2_sp: Strength of the pull back to the weights it started from, in place of weight decay.
        held_out: Categories that `pretrain` learns nothing from, to be adapted to.
        affinity_pages: Pages of each category whose gradients `pretrain` compares at every
            evaluation; 0 compares none.
        balance: How losses are weighed against each other: `fixed`, `uncertainty` or `pcgrad`.
        balance_over: Whose losses these are: `objectives` or `categories`.
    """

    name: str
    log: str
    seed: int = 1
    objectives: tuple[str, ...] = ("purchase", "trial", "discount")
    objective_weights: tuple[float, ...] = (1.0, 0.5, 0.2)
    objective: tuple[Objective, ...] = ()
    gate: str = "shared"
    experts: int = 4
    surfaces: tuple[str, ...] = ("search", "discovery", "promotion")
    categories: tuple[str, ...] = ()
    width: int = 64
    hidden: tuple[int, ...] = (128, 64)
    rank: int = 2
    adapter: str = "low_rank"
    heads: int = 4
    page_layers: int = 1
    number_bins: int = 8
    dropout: float = 0.1
    modality_dropout: float = 0.2
    left_out_modalities: tuple[str, ...] = ()
    shopper_sequence: bool = True
    sequence: str = "attention"
    pages_per_batch: int = 48
    candidates_per_page: int = 64
    epochs: int = 3
    learning_rate: float = 1.5e-3
    warmup_share: float = 0.05
    weight_decay: float = 0.02
    pointwise_weight: float = 0.1
    teacher_share: float = 0.0
    trees: bool = False
    trees_every: int = 1
    category_power: float = 1.0
    average_decay: float = 0.995
    evaluations_per_epoch: int = 4
    patience: int = 6
    validation_pages: int = 3000
    refit_days: int = 28
    mlflow: str = ""
    max_pages: int = 0
    start_from: str = ""
    train_only: str = "all"
    frozen_share: float = 0.0
    l2_sp: float = 0.0
    held_out: tuple[str, ...] = ()
    affinity_pages: int = 0
    balance: str = "fixed"
    balance_over: str = "objectives"


def read_config(path: Path) -> TrainConfig:
    """Read and check a run's TOML file.

    Raises:
        ConfigError: All that is wrong with it, at once.
    """
    return config_from_values(read_toml(path), path.name)


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises:
        ConfigError: When it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"config: got no file {path}, want a TOML file") from error
    except OSError as error:
        raise ConfigError(f"config {path}: got {error.strerror}, want a readable file") from error
    except ValueError as error:  # broken TOML, or bytes that are no UTF-8
        raise ConfigError(f"config {path.name}: got {error}, want TOML") from error


def config_from_values(values: Mapping[str, Any], name: str) -> TrainConfig:
    """Return the configuration of values by key, as TOML has them; `name` is where they are from.

    Raises:
        ConfigError: All that is wrong with them, at once.
    """
    known = {item.name: item for item in fields(TrainConfig)}
    values, tables, told = _with_tables(values)
    wrong = told + [
        f"{key}: got an unknown key, want one of {', '.join(known)}{nearest(key, known)}"
        for key in values
        if key not in known
    ]
    wrong += [f"{key}: got nothing, want a value" for key in ("name", "log") if key not in values]
    typed = {key: _typed(known[key].type, value) for key, value in values.items() if key in known}
    wrong += [
        f"{key}: got {values[key]!r}, want {known[key].type}"
        for key, value in typed.items()
        if value is None
    ]
    if not wrong:
        wrong = _contradictions(TrainConfig(**typed, objective=tables))
    if wrong:
        raise ConfigError(f"config {name}: " + "; ".join(wrong))
    return TrainConfig(**typed, objective=tables)


def run_objectives(config: TrainConfig) -> tuple[Objective, ...]:
    """Return the objectives of a run: its tables, or what the names in its list stand for."""
    if config.objective:
        return config.objective
    pairs = zip(config.objectives, config.objective_weights, strict=True)
    return tuple(replace(objective_named(name), weight=weight) for name, weight in pairs)


def _with_tables(
    values: Mapping[str, Any],
) -> tuple[Mapping[str, Any], tuple[Objective, ...], list[str]]:
    """Return the values with tables of objectives as the two lists, the tables, and findings."""
    if "objective" not in values:
        return values, (), []
    tables, wrong = read_tables(
        Objective,
        values["objective"],
        "objective",
        contradictions=contradictions,
        start=objective_named,
    )
    rest = {key: value for key, value in values.items() if key != "objective"}
    wrong += [
        f"{key}: got it beside [[objective]] tables, want one of the two"
        for key in ("objectives", "objective_weights")
        if key in rest
    ]
    wrong += unknown_givens(tables)
    if wrong:
        return rest, (), wrong
    lists = {
        "objectives": [table.name for table in tables],
        "objective_weights": [table.weight for table in tables],
    }
    return {**rest, **lists}, tables, []


_ITEMS: dict[str, type] = {
    "tuple[str, ...]": str,
    "tuple[float, ...]": float,
    "tuple[int, ...]": int,
}


def _typed(kind: Any, value: Any) -> Any:  # noqa: ANN401  TOML holds any value
    """Return `value` as the field's type, or None when it is of another."""
    if kind in _ITEMS:
        item = _ITEMS[kind]
        if not isinstance(value, list) or not all(_is(entry, item) for entry in value):
            return None
        return tuple(item(entry) for entry in value)
    wanted = {"str": str, "int": int, "float": float, "bool": bool}[kind]
    return wanted(value) if _is(value, wanted) else None


def _is(value: object, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


_MOST = sys.float_info.max
# Name -> smallest and largest value; of a tuple, of each of its entries.
_RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    "objective_weights": (0, _MOST),
    "width": (1, _MOST),
    "hidden": (1, _MOST),
    "rank": (0, _MOST),
    "heads": (1, _MOST),
    "page_layers": (0, _MOST),
    "number_bins": (0, _MOST),
    "pages_per_batch": (1, _MOST),
    "epochs": (1, _MOST),
    "warmup_share": (0, 1),
    "weight_decay": (0, _MOST),
    "pointwise_weight": (0, _MOST),
    "evaluations_per_epoch": (1, _MOST),
    "patience": (1, _MOST),
    "validation_pages": (1, _MOST),
    "refit_days": (1, _MOST),
    "max_pages": (0, _MOST),
    "candidates_per_page": (0, _MOST),
    "teacher_share": (0, 1),
    "trees_every": (1, _MOST),
    "frozen_share": (0, 1),
    "l2_sp": (0, _MOST),
    "affinity_pages": (0, _MOST),
    "experts": (1, _MOST),
}
_SHARES = ("dropout", "modality_dropout", "average_decay")
_CHOICES: dict[str, tuple[str, ...]] = {
    "gate": ("shared", "mmoe", "ple"),
    "adapter": ("low_rank", "star"),
    "sequence": ("attention", "gru", "lstm", "transformer"),
    "train_only": ("all", "adapters"),
    "balance": ("fixed", "uncertainty", "pcgrad"),
    "balance_over": ("objectives", "categories"),
}
_LISTS = ("objectives", "surfaces", "hidden")


def _contradictions(config: TrainConfig) -> list[str]:
    """Return what is of the right type and still cannot be used."""
    from trainer.encoding.features import SURFACES  # noqa: PLC0415  it brings SciPy, help wants none

    wrong = [f"{name}: got none, want at least one" for name in _LISTS if not getattr(config, name)]
    for name, (low, high) in _RANGES.items():
        value = getattr(config, name)
        entries = value if isinstance(value, tuple) else (value,)
        want = f"at least {low}" if high == _MOST else f"{low} to {high}"
        wrong += [
            f"{name}: got {entry}, want {want}" for entry in entries if not low <= entry <= high
        ]
    for name in _SHARES:
        if not 0 <= getattr(config, name) < 1:
            wrong.append(f"{name}: got {getattr(config, name)}, want 0 to less than 1")
    if not 0 < config.learning_rate < math.inf:
        wrong.append(f"learning_rate: got {config.learning_rate}, want a number above 0")
    if not math.isfinite(config.category_power):
        wrong.append(f"category_power: got {config.category_power}, want a finite number")
    if len(config.objectives) != len(config.objective_weights):
        wrong.append(
            f"objective_weights: got {len(config.objective_weights)}, want one for each of the "
            f"{len(config.objectives)} objectives"
        )
    wrong += [
        f"surfaces: got {name!r}, want some of {', '.join(SURFACES)}{nearest(name, SURFACES)}"
        for name in config.surfaces
        if name not in SURFACES
    ]
    for name in ("objectives", "surfaces"):
        entries = getattr(config, name)
        if len(set(entries)) != len(entries):
            wrong.append(f"{name}: got {', '.join(entries)}, want each once")
    wrong += _transfer(config)
    return wrong or _widths(config)


def _transfer(config: TrainConfig) -> list[str]:
    """Return what contradicts itself in the keys of transfer and of balance."""
    wrong = [
        f"{name}: got {getattr(config, name)!r}, want one of {', '.join(known)}"
        f"{nearest(getattr(config, name), known)}"
        for name, known in _CHOICES.items()
        if getattr(config, name) not in known
    ]
    if not config.start_from:
        for name, neutral in (("train_only", "all"), ("frozen_share", 0.0), ("l2_sp", 0.0)):
            if getattr(config, name) != neutral:
                wrong.append(
                    f"{name}: got {getattr(config, name)} without start_from, want start_from too"
                )
    return wrong


def _widths(config: TrainConfig) -> list[str]:
    wrong = []
    if not config.name.strip(".") or Path(config.name).name != config.name:
        wrong.append(f"name: got {config.name!r}, want a name that a folder can have")
    if config.width % config.heads or config.hidden[-1] % config.heads:
        wrong.append(
            f"heads: got {config.heads}, want a divisor of width {config.width} and of the last "
            f"hidden width {config.hidden[-1]}"
        )
    return wrong

"""The configuration of one training run: a flat TOML file, refused when a key is unknown."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rerank_server.contract.errors import nearest
from trainer.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One run.

    Attributes:
        name: Names the run's folder.
        log: The log's TOML file, relative to this one.
        seed: Of weights, order of pages and dropout.
        objectives: The heads that are trained, in output order.
        objective_weights: Share of each head in the loss.
        surfaces: Pages trained on; `discovery` is made from the search pages.
        width: Of product, query and shopper vectors.
        hidden: Widths of the adapted layers.
        rank: Of the category adapters.
        heads: Of attention.
        page_layers: Blocks of attention over the page.
        number_bins: Bins of the encoding of dense features.
        dropout: Share of hidden units.
        modality_dropout: Share of product modalities.
        pages_per_batch: Pages of one step.
        epochs: Passes over the training pages at most.
        learning_rate: Peak of AdamW's, after warm-up; cosine from there to a twentieth.
        warmup_share: Share of all steps that the rate rises for.
        weight_decay: AdamW's.
        pointwise_weight: Share of the pointwise loss.
        category_power: Pages of a category of n pages are drawn with n to this power.
        average_decay: Of the moving average of weights that is evaluated and exported.
        evaluations_per_epoch: Evaluations on validation pages, each a checkpoint.
        patience: Evaluations without a better one before the run stops.
        validation_pages: Pages per surface an evaluation takes at most.
        refit_days: Days between fits of item-kNN and ALS.
        max_pages: Training pages per surface at most; 0 takes all.
    """

    name: str
    log: str
    seed: int = 1
    objectives: tuple[str, ...] = ("purchase", "trial", "discount")
    objective_weights: tuple[float, ...] = (1.0, 0.5, 0.2)
    surfaces: tuple[str, ...] = ("search", "discovery", "promotion")
    width: int = 64
    hidden: tuple[int, ...] = (128, 64)
    rank: int = 2
    heads: int = 4
    page_layers: int = 1
    number_bins: int = 8
    dropout: float = 0.1
    modality_dropout: float = 0.2
    pages_per_batch: int = 48
    epochs: int = 3
    learning_rate: float = 1.5e-3
    warmup_share: float = 0.05
    weight_decay: float = 0.02
    pointwise_weight: float = 0.1
    category_power: float = 1.0
    average_decay: float = 0.995
    evaluations_per_epoch: int = 4
    patience: int = 6
    validation_pages: int = 3000
    refit_days: int = 28
    max_pages: int = 0


def read_config(path: Path) -> TrainConfig:
    """Read and check a run's TOML file.

    Raises:
        ConfigError: All that is wrong with it, at once.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"config: got no file {path}, want a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config {path.name}: got {error}, want TOML") from error
    known = {item.name: item for item in fields(TrainConfig)}
    wrong = [
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
        wrong = _contradictions(TrainConfig(**typed))
    if wrong:
        raise ConfigError(f"config {path.name}: " + "; ".join(wrong))
    return TrainConfig(**typed)


_ITEMS: dict[str, type] = {
    "tuple[str, ...]": str,
    "tuple[float, ...]": float,
    "tuple[int, ...]": int,
}


def _typed(kind: Any, value: Any) -> Any:
    """Return `value` as the field's type, or None when it is of another."""
    if kind in _ITEMS:
        item = _ITEMS[kind]
        if not isinstance(value, list) or not all(_is(entry, item) for entry in value):
            return None
        return tuple(item(entry) for entry in value)
    wanted = {"str": str, "int": int, "float": float}[kind]
    return wanted(value) if _is(value, wanted) else None


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _contradictions(config: TrainConfig) -> list[str]:
    """Return what no single key shows."""
    wrong = []
    if len(config.objectives) != len(config.objective_weights):
        wrong.append(
            f"objective_weights: got {len(config.objective_weights)}, want one for each of the "
            f"{len(config.objectives)} objectives"
        )
    if config.width % config.heads or config.hidden[-1] % config.heads:
        wrong.append(
            f"heads: got {config.heads}, want a divisor of width {config.width} and of the last "
            f"hidden width {config.hidden[-1]}"
        )
    for name in ("pages_per_batch", "epochs", "evaluations_per_epoch", "width", "rank"):
        if getattr(config, name) < 1:
            wrong.append(f"{name}: got {getattr(config, name)}, want at least 1")
    for name in ("dropout", "modality_dropout", "average_decay"):
        if not 0 <= getattr(config, name) < 1:
            wrong.append(f"{name}: got {getattr(config, name)}, want 0 to less than 1")
    return wrong

"""Transfer to one category: a network of the sources, adapted to the target's few pages.

The protocol of few-shot learning: the sources are learned without a page of the target, then the
target's pages alone move the network, and the same pages alone train what it is compared with.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from trainer.atomic_text import write_text
from trainer.baselines.gbdt import GbdtBudget, GbdtError, train_gbdt
from trainer.config import TrainConfig, run_objectives
from trainer.encoding.catalogue import Catalogue, read_catalogue
from trainer.encoding.encoded import EncodedLog, with_objectives
from trainer.encoding.page_draws import (
    Draw,
    category_row,
    draw_pages,
    few_pages,
    measured_pages,
    pages_with_positive,
    transfer_surface,
    without_categories,
)
from trainer.encoding.pageset import Doubles, Integers, encoded_pages
from trainer.errors import TransferError
from trainer.model.ranker import Ranker
from trainer.pipeline import run_folder
from trainer.training.checkpoint import CHECKPOINT
from trainer.training.network import build_ranker, score_pages
from trainer.training.source_affinity import AffinityMeter, read_affinities, teaching_sources
from trainer.training.starting_weights import read_start, start_from, with_scales_of
from trainer.training.train import TrainResult, train

SOURCE, TARGET = "source", "target"
# adapters alone learn from so few pages; beyond, the shared part follows in a second half
ADAPTERS_ONLY_PAGES = 300
_ADAPTERS_RATE = 3e-3
_SHARED_RATE = 5e-4
_PULL = 0.01
_ADAPT_STEPS, _ALONE_STEPS = 40, 160
_BATCHES_PER_EPOCH = 5
_WATCHED_PAGES = 100


@dataclass(frozen=True, slots=True)
class Setting:
    """What transfers are made in.

    Attributes:
        config: Of the source network; `held_out` names the targets.
        log: Encoded, with the objectives of `config`.
        catalogue: Inputs of the product tower.
        work: Where runs are kept.
        surface: Whose pages are learned and measured.
        progress: Whether trainings draw bars.
    """

    config: TrainConfig
    log: EncodedLog
    catalogue: Catalogue
    work: Path
    surface: str
    progress: bool

    @classmethod
    def of(cls, config: TrainConfig, log: EncodedLog, work: Path, *, progress: bool) -> Setting:
        """Choose the surface, and check the targets.

        Raises:
            TransferError: When no surface has pages of one category, none or all categories are
                held out, or one is unknown.
        """
        log = with_objectives(log, run_objectives(config))
        surface = transfer_surface(log, config.surfaces)
        for name in config.held_out:
            category_row(log, name)
        if not config.held_out:
            raise TransferError("held_out: got no target, want at least one category")
        if not set(log.schema.categories[1:]) - set(config.held_out):
            raise TransferError("held_out: got every category, want at least one as a source")
        with threadpool_limits(1, "blas"):
            catalogue = read_catalogue(log.prepared)
        # one category a page: what trees or another surface would add is another comparison
        config = replace(config, surfaces=(surface,), trees=False)
        return cls(config, log, catalogue, work, surface, progress)

    @property
    def sources(self) -> list[str]:
        """The categories that are not held out, in the log's order."""
        return [name for name in self.log.schema.categories[1:] if name not in self.config.held_out]


def with_sources(setting: Setting, sources: Sequence[str]) -> Setting:
    """Return the setting in which these categories alone are sources.

    Raises:
        TransferError: When there is none, or one of them is held out or unknown.
    """
    if not sources:
        raise TransferError("sources: got none, want at least one category")
    for name in sources:
        category_row(setting.log, name, "sources")
        if name in setting.config.held_out:
            raise TransferError(f"sources: got {name!r}, which is held out as a target")
    left_out = [name for name in setting.log.schema.categories[1:] if name not in sources]
    config = replace(setting.config, held_out=tuple(left_out), affinity_pages=0)
    return replace(setting, config=config)


def chosen_sources(setting: Setting, target: str, count: int) -> Setting:
    """Return the setting with those sources alone whose gradients help the target.

    They are read from the training of all sources, which is run where it was not.

    Raises:
        TransferError: When that compared no gradients, compared more pages of the target than
            `count`, or no source helps.
    """
    compared = setting.config.affinity_pages
    if not 0 < compared <= count:
        raise TransferError(
            f"sources: got auto with {count} pages and affinity_pages {compared}, want "
            "affinity_pages of 1 up to the number of pages: no more of the target may be looked at"
        )
    folder, _ = pretrain(setting)
    return with_sources(setting, teaching_sources(read_affinities(folder), target, setting.sources))


def pretrain(setting: Setting) -> tuple[Path, TrainResult]:
    """Train the network of the sources, or go on with or read back an equal one.

    With `affinity_pages`, the gradients of all categories, the targets among them, are compared
    at every evaluation; see `source_affinity`. Nothing is learned from the targets by that.

    Returns:
        The run's folder and its result.
    """
    config = replace(setting.config, name=f"{setting.config.name}-sources")
    log = without_categories(setting.log, config.held_out)
    folder = run_folder(config, log, setting.work)
    write_text(folder / "config.json", json.dumps(asdict(config), indent=1))
    meter = None
    if config.affinity_pages:
        pages = affinity_pages(setting)
        meter = AffinityMeter(config, setting.log, setting.catalogue, folder, pages)
        if (folder / CHECKPOINT).exists():  # stopped between checkpoint and measurement
            meter.measure()
    result = train(
        config,
        log,
        setting.catalogue,
        folder,
        progress=setting.progress,
        on_evaluation=None if meter is None else lambda _step, _figure: meter.measure(),
    )
    return folder, result


def affinity_pages(setting: Setting) -> dict[str, Integers]:
    """Return the training pages by which categories are compared, of those that have any.

    A target's are those that `few_pages` draws at random for as many pages.
    """
    config, log = setting.config, setting.log
    drawn = {}
    for name in log.schema.categories[1:]:
        row = category_row(log, name)
        pages = pages_with_positive(log, row, "train", setting.surface)
        if pages.size:
            seed = (config.seed, row, 0)
            drawn[name] = draw_pages(pages, config.affinity_pages, "random", seed)
    return drawn


def adapt(
    setting: Setting,
    source: Path,
    target: str,
    count: int,
    draw: Draw,
    changes: Mapping[str, Any] | None = None,
) -> tuple[Path, TrainResult]:
    """Adapt the network of the sources to `count` pages of a target.

    The journal tells cross-entropy and NDCG@10 of source and of target validation pages before
    the first step and at every evaluation; the target's granted validation pages stop it.

    Args:
        setting: Where the source was trained.
        source: Folder of the source's run.
        target: A category held out from it.
        count: Its pages to learn from, and to stop by.
        draw: Which pages these are.
        changes: Keys of the configuration that take the place of what the number of pages says.

    Returns:
        The run's folder and its result.

    Raises:
        TransferError: As `check_target`.
    """
    check_target(setting, target, count)
    log = few_pages(setting.log, target, count, setting.surface, draw, setting.config.seed)
    config = replace(adaptation_config(setting.config, source, target, count), **(changes or {}))
    folder = run_folder(config, log, setting.work)
    write_text(folder / "config.json", json.dumps(asdict(config), indent=1))
    result = train(
        config,
        log,
        setting.catalogue,
        folder,
        progress=setting.progress,
        watched=watched_pages(setting, target),
    )
    return folder, result


def check_target(setting: Setting, target: str, count: int) -> None:
    """Refuse what cannot be adapted to, before anything is trained.

    Args:
        setting: Where the source is trained.
        target: Wanted among the categories held out.
        count: Its pages to learn from, 0 for none.

    Raises:
        TransferError: When the category is unknown or the sources hold it, when it has fewer
            pages or none to measure by.
    """
    category_row(setting.log, target)
    if target not in setting.config.held_out:
        raise TransferError(
            f"target: got {target!r}, which the sources hold, want one of the targets held out: "
            f"{', '.join(setting.config.held_out)}"
        )
    if count < 0:
        raise TransferError(f"pages: got {count}, want 0 or more")
    measured_pages(setting.log, target, setting.surface)
    if count:
        few_pages(setting.log, target, count, setting.surface, "random", setting.config.seed)


def watched_pages(setting: Setting, target: str) -> dict[str, Integers]:
    """Return validation pages of the sources and of the target, evenly spread over time."""
    log = without_categories(setting.log, setting.config.held_out)
    pages = {
        SOURCE: log.pages_of("validation", setting.surface),
        TARGET: pages_with_positive(
            setting.log, category_row(setting.log, target), "validation", setting.surface
        ),
    }
    spread = {}
    for name, found in pages.items():
        count = min(found.size, _WATCHED_PAGES)
        spread[name] = found[np.arange(count) * found.size // max(count, 1)]
    return {name: found for name, found in spread.items() if found.size}


def adaptation_config(config: TrainConfig, source: Path, target: str, count: int) -> TrainConfig:
    """Return how a number of pages is adapted to.

    Up to `ADAPTERS_ONLY_PAGES` the adapters, scale and bias of the category alone; beyond, these
    in the first half of the steps and everything in the second, slower and pulled to the start.
    """
    batch = max(min(config.pages_per_batch, count // _BATCHES_PER_EPOCH), 1)
    few = count <= ADAPTERS_ONLY_PAGES
    return replace(
        _few_steps(config, batch, count, _ADAPT_STEPS),
        name=f"{config.name}-{target}-{count}",
        start_from=source.name,
        train_only="adapters" if few else "all",
        frozen_share=0.0 if few else 0.5,
        l2_sp=_PULL,
        learning_rate=_ADAPTERS_RATE if few else _SHARED_RATE,
    )


def alone_config(config: TrainConfig, target: str, count: int) -> TrainConfig:
    """Return the configuration of a network that learns from the target's pages alone."""
    batch = max(min(config.pages_per_batch, count // _BATCHES_PER_EPOCH), 1)
    return replace(
        _few_steps(config, batch, count, _ALONE_STEPS), name=f"{config.name}-{target}-{count}-alone"
    )


def _few_steps(config: TrainConfig, batch: int, count: int, steps: int) -> TrainConfig:
    per_epoch = math.ceil(count / batch)
    return replace(
        config,
        held_out=(),
        affinity_pages=0,
        max_pages=0,
        category_power=1.0,
        teacher_share=0.0,  # trees of ten pages teach nothing
        pages_per_batch=batch,
        # as many steps from few pages as from many, within four passes over many
        epochs=max(math.ceil(steps / per_epoch), 4 if steps == _ALONE_STEPS else 2),
        evaluations_per_epoch=1,
        validation_pages=1000,
        patience=5,
    )


def target_scores(setting: Setting, ranker: Ranker, target: str) -> Doubles:
    """Return the first objective's logits on the target's test pages, shape (rows,)."""
    pages = measured_pages(setting.log, target, setting.surface)
    logits = score_pages(ranker, setting.catalogue, setting.log, pages)
    return logits[:, 0].astype(np.float64)


def shared_scores(setting: Setting, source: Path, target: str) -> Doubles:
    """Return what the network of the sources makes of the target without a page of it."""
    check_target(setting, target, 0)
    start = read_start(source)
    log = with_scales_of(start, setting.log)
    ranker = build_ranker(setting.config, log, setting.catalogue)
    start_from(start, ranker, log.schema, setting.catalogue.vocabulary)
    return target_scores(setting, ranker, target)


def alone_scores(setting: Setting, target: str, count: int, draw: Draw) -> Doubles:
    """Return the scores of a network that has learned from the target's pages alone."""
    log = few_pages(setting.log, target, count, setting.surface, draw, setting.config.seed)
    config = alone_config(setting.config, target, count)
    folder = run_folder(config, log, setting.work)
    result = train(config, log, setting.catalogue, folder, progress=setting.progress)
    return target_scores(setting, result.ranker, target)


def alone_tree_scores(
    setting: Setting, target: str, count: int, draw: Draw, budget: GbdtBudget
) -> Doubles | None:
    """Return the scores of LightGBM on the same pages; None where it cannot learn from them."""
    log = few_pages(setting.log, target, count, setting.surface, draw, setting.config.seed)
    train_set, held = (
        encoded_pages(log, split, setting.surface) for split in ("train", "validation")
    )
    try:
        model = train_gbdt(train_set, held, log.schema.objectives[0], budget)
    except GbdtError:
        return None
    return model(encoded_pages(log, "test", setting.surface))

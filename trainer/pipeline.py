"""The steps of a run in order; each reads what an equal earlier call has left."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from rerank_server.contract.bundle import Bundle
from rerank_server.contract.page import SECONDS_PER_DAY
from rerank_server.contract.products import ProductTable
from trainer.atomic_text import write_text
from trainer.calibration import Calibration
from trainer.catalogue import Catalogue, read_catalogue, with_factors
from trainer.collaborative import fit_collaborative
from trainer.config import TrainConfig
from trainer.counts import RollingStats, purchases_in_time
from trainer.dataset import Prepared, read_prepared
from trainer.encoded import SPLITS, EncodedLog, encode, with_objectives
from trainer.evaluation import Evaluation, to_json
from trainer.export import export_bundle
from trainer.features import product_table
from trainer.late_fusion import fit_tree_term
from trainer.model.ranker import Ranker
from trainer.prepare import prepare
from trainer.snapshot import write_snapshot
from trainer.tasks import calibrate, choose_weights
from trainer.train import TrainResult, train


@dataclass(frozen=True, slots=True)
class Run:
    """A trained network with all that was used to train it.

    Attributes:
        config: Its configuration.
        folder: Checkpoints, curves, report.
        log: The encoded log.
        catalogue: Inputs of the product tower.
        ranker: Trained and calibrated.
        calibration: What was set in the ranker.
        objective_weights: Surface -> objective -> weight in the score.
        result: Of the training.
    """

    config: TrainConfig
    folder: Path
    log: EncodedLog
    catalogue: Catalogue
    ranker: Ranker
    calibration: Calibration
    objective_weights: dict[str, dict[str, float]]
    result: TrainResult


def prepare_and_encode(
    config_path: Path, config: TrainConfig, work: Path, *, progress: bool
) -> EncodedLog:
    """Return the encoded log that a run's configuration names."""
    prepared = prepare(config_path.parent / config.log, work, progress=progress)
    with threadpool_limits(1, "blas"):  # `implicit` and the encoding have threads of their own
        return encode(read_prepared(prepared), config.surfaces, config.refit_days, work)


def run_training(config: TrainConfig, log: EncodedLog, work: Path, *, progress: bool) -> Run:
    """Train a network, or go on with or read back the run of the same configuration and data."""
    log = with_objectives(log, config.objectives)
    with threadpool_limits(1, "blas"):
        catalogue = read_catalogue(log.prepared)
    key = hashlib.sha256(json.dumps([asdict(config), log.folder.name]).encode()).hexdigest()[:8]
    folder = work / "runs" / f"{config.name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.json", json.dumps(asdict(config), indent=1))
    result = train(config, log, catalogue, folder, progress=progress)
    if config.trees:
        result.ranker.tree_term = fit_tree_term(
            result.ranker, catalogue, log, config.surfaces, every=config.trees_every
        )
    calibration = calibrate(result.ranker, catalogue, log, config.surfaces)
    weights = choose_weights(result.ranker, catalogue, log, calibration, config.surfaces)
    return Run(config, folder, log, catalogue, result.ranker, calibration, weights, result)


def table_at(prepared: Prepared, day: int) -> ProductTable:
    """Return the product table as of `day`, everything counted and fitted before it."""
    purchases = purchases_in_time(
        prepared.shopper_offsets,
        prepared.interaction_rows,
        prepared.interaction_times,
        prepared.interaction_prices,
        prepared.interaction_discounts,
    )
    stats = RollingStats(purchases, prepared.size, prepared.product_leaves)
    stats.advance(day)
    with threadpool_limits(1, "blas"):
        training = prepared.page_times[prepared.page_splits == SPLITS.index("train")]
        first = fit_collaborative(purchases, prepared.size, int(training.min()) // SECONDS_PER_DAY)
        fit = fit_collaborative(purchases, prepared.size, day, previous=first)
    return product_table(prepared, stats.columns(), fit, day)


def first_test_day(prepared: Prepared) -> int:
    """Return the day (UTC) of the first test page."""
    times = prepared.page_times[prepared.page_splits == SPLITS.index("test")]
    return int(times.min()) // SECONDS_PER_DAY


def export_run(run: Run, evaluation: Evaluation | None, work: Path, day: int) -> Bundle:
    """Write bundle and catalogue snapshot, both as of `day`, under `work`."""
    prepared = run.log.prepared
    table = table_at(prepared, day)
    # the tower was trained with the factors of the start of training and is served with those
    # of the day; turned onto each other they mean the same
    catalogue = with_factors(run.catalogue, table.factors)
    figures: dict[str, float] = {}
    if evaluation is not None:
        figures = {
            f"{task}_ndcg_at_10": result.rankings[evaluation.network].metrics["ndcg_at_10"].mean
            for task, result in evaluation.tasks.items()
        }
    report = to_json(evaluation) if evaluation else {}
    bundle = export_bundle(
        work / "bundle",
        run.ranker,
        run.log,
        catalogue,
        table,
        objective_weights=run.objective_weights,
        report=report,
        figures={name: float(value) for name, value in figures.items() if np.isfinite(value)},
    )
    write_snapshot(work / "snapshot", catalogue, table, run.log.schema)
    return bundle

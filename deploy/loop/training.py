"""From a training log to a bundle with its product store, by the trainer's own steps."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from rerank_server.contract.atomic import atomic_folder
from rerank_server.contract.bundle import read_bundle
from rerank_server.onnx_graph import open_graphs
from rerank_server.product_build import build_product_store
from trainer.atomic_text import write_text
from trainer.config import read_config

BUNDLE, PRODUCTS = "bundle", "products"


@dataclass(frozen=True, slots=True)
class CandidateBundle:
    """A bundle that was trained and not yet published.

    Attributes:
        bundle_id: Its content hash.
        folder: Holds `bundle` and `products`.
        pages: Training pages.
        validation_ndcg: Best validation NDCG@10 of clicks.
    """

    bundle_id: str
    folder: Path
    pages: int
    validation_ndcg: float

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


def train_candidate(
    config_path: Path, work: Path, out: Path, *, threads: int, progress: bool
) -> CandidateBundle:
    """Train on the log beside `config_path`, export, and build the product store under `out`.

    A call that was stopped goes on from its last checkpoint.

    Raises:
        RerankError: The child that names what is wrong.
    """
    from trainer.pipeline import (  # noqa: PLC0415  Paddle takes seconds
        export_run,
        first_test_day,
        prepare_and_encode,
        run_training,
    )
    from trainer.train import training_pages  # noqa: PLC0415

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
        bundle_id, folder, int(training_pages(config, log).size), run.result.progress.best
    )

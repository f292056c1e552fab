"""What each modality adds: the network with one missing at serve time, and trained without it.

Missing at serve time costs no training: the trained network scores the same test pages, and the
products are as if the modality were not known of any. A network that is trained without it may make
up for it with others, so that figure says what the modality adds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from trainer.atomic_text import write_text
from trainer.config import TrainConfig
from trainer.encoding.catalogue import Catalogue
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.log_share import PageLimits, share_of_log
from trainer.encoding.pageset import encoded_pages
from trainer.evaluation.bootstrap import DRAWS, Interval
from trainer.evaluation.evaluation import plain_json
from trainer.evaluation.evaluation_tables import bracketed
from trainer.evaluation.page_figures import (
    PairedDifference,
    TaskFigures,
    paired_figures,
    task_figures,
)
from trainer.model.products import ProductTower
from trainer.pipeline import Run
from trainer.reports.run_plots import plot_differences, plot_matrix
from trainer.reports.sheet import Section, Sheet, Table, write_sheet
from trainer.studies.ablation import Ablation, run_ablation
from trainer.studies.ablation_plan import FULL, AblationPlan
from trainer.studies.ablation_report import limits_of
from trainer.tasks import log_tasks, served_scores
from trainer.training.network import score_pages
from trainer.training.provenance import code_commit, command_line, describe_environment, now

TEXT, CATEGORY, ATTRIBUTES = "text", "category", "attributes"
IDENTITY, BEHAVIOUR, PRICES = "identity", "behaviour", "prices"
PRICE_GROUP = "price"

Without = Callable[[Catalogue, EncodedLog], tuple[Catalogue, EncodedLog]]


@dataclass(frozen=True, slots=True)
class ModalityResult:
    """What is lost without each modality; every difference is the full network minus without.

    Attributes:
        figures: By task, the full network's figures.
        missing: By modality and task, the trained network with the modality missing at serve time.
        left_out: The networks trained without, against one trained with all of them on the same
            pages; None where none was trained.
        coverage: By modality, share of the catalogue's products that have it.
    """

    figures: dict[str, TaskFigures]
    missing: dict[str, dict[str, PairedDifference]]
    left_out: Ablation | None
    coverage: dict[str, float]


def modalities(catalogue: Catalogue) -> dict[str, Without]:
    """Return by name how catalogue and log look when a modality is missing of every product."""
    removed: dict[str, Without] = {
        TEXT: lambda held, log: (replace(held, text=np.zeros_like(held.text)), log),
        CATEGORY: _without_category,
        ATTRIBUTES: lambda held, log: (
            replace(held, attributes=np.zeros_like(held.attributes)),
            log,
        ),
        IDENTITY: lambda held, log: (
            replace(held, identities=np.zeros_like(held.identities)),
            log,
        ),
        BEHAVIOUR: lambda held, log: (
            replace(
                held,
                factors=np.zeros_like(held.factors),
                factors_present=np.zeros_like(held.factors_present),
            ),
            log,
        ),
    }
    removed |= {vector.name: _without_vector(vector.name) for vector in catalogue.vectors}
    return removed | {PRICES: _without_prices}


def _without_category(catalogue: Catalogue, log: EncodedLog) -> tuple[Catalogue, EncodedLog]:
    """Take a product's category and path; the network's adapters then are the neutral ones."""
    held = replace(
        catalogue,
        categories=np.zeros_like(catalogue.categories),
        levels=np.zeros_like(catalogue.levels),
    )
    return held, replace(log, categories=np.zeros_like(log.categories))


def _without_vector(name: str) -> Without:
    def without(catalogue: Catalogue, log: EncodedLog) -> tuple[Catalogue, EncodedLog]:
        vectors = tuple(
            replace(vector, values=np.zeros(vector.values.shape, np.float32))
            if vector.name == name
            else vector
            for vector in catalogue.vectors
        )
        return replace(catalogue, vectors=vectors), log

    return without


def _without_prices(catalogue: Catalogue, log: EncodedLog) -> tuple[Catalogue, EncodedLog]:
    columns = [index for index, spec in enumerate(log.schema.features) if spec.group == PRICE_GROUP]
    dense = np.array(log.dense, np.float32)
    dense[:, columns] = np.nan
    return catalogue, replace(log, dense=dense)


def coverage(catalogue: Catalogue) -> dict[str, float]:
    """Return the share of products that have each modality."""

    def share(present: npt.ArrayLike) -> float:
        return float((np.asarray(present)[:-1] != 0).mean())

    shares = {
        TEXT: share(catalogue.text.any(axis=1)),
        CATEGORY: share(catalogue.categories),
        ATTRIBUTES: share(catalogue.attributes.any(axis=1)),
        IDENTITY: share(catalogue.identities),
        BEHAVIOUR: share(catalogue.factors_present),
    }
    return shares | {
        vector.name: share(np.asarray(vector.values).any(axis=1)) for vector in catalogue.vectors
    }


def measure_modalities(
    run: Run, limits: PageLimits, left_out: Ablation | None = None, *, progress: bool
) -> ModalityResult:
    """Score test pages with each modality missing, and compare with the full network.

    Args:
        run: A trained network.
        limits: Test pages of each surface at most.
        left_out: From `run_left_out`.
        progress: Whether to draw a progress bar.

    Raises:
        EvaluationError: When no surface has a test page.
    """
    # training pages score nothing here, so that few are copied
    limits = replace(limits, train=1, validation=1)
    small = replace(run, log=share_of_log(run.log, limits))
    full = _figures(small)
    missing = {}
    changes = modalities(small.catalogue)
    for name, without in tqdm(changes.items(), desc="Modalities", disable=not progress):
        catalogue, log = without(small.catalogue, small.log)
        got = _figures(replace(small, catalogue=catalogue, log=log), small.log)
        missing[name] = {task: paired_figures(full[task], got[task]) for task in full}
    return ModalityResult(full, missing, left_out, coverage(small.catalogue))


def run_left_out(
    config_path: Path,
    config: TrainConfig,
    vectors: tuple[str, ...],
    limits: PageLimits,
    work: Path,
    *,
    seeds: int,
    progress: bool,
) -> Ablation:
    """Train the network of a configuration in full and without each modality of its products.

    Category and attributes are one modality to the network, `structure`. Trainings are kept, and
    one that was stopped goes on.

    Args:
        config_path: Its log is found from there.
        config: The full network's.
        vectors: Names of the log's named vectors.
        limits: Pages of each surface at most.
        work: Where prepared data, runs and finished trainings are kept.
        seeds: Trainings of each.
        progress: Whether to draw progress bars.
    """
    names = (*ProductTower.MODALITIES, *vectors)
    overrides: dict[str, dict[str, Any]] = {name: {"left_out_modalities": [name]} for name in names}
    plan = AblationPlan(
        name="modalities",
        config_path=config_path,
        full=config,
        changes={name: replace(config, left_out_modalities=(name,)) for name in names},
        overrides=overrides,
        seeds=seeds,
        split="test",
        limits=limits,
    )
    return run_ablation(plan, work, progress=progress)


def _figures(run: Run, told: EncodedLog | None = None) -> dict[str, TaskFigures]:
    """Return what the network reaches, by task; `told` says what the candidates' categories are."""
    log, told = run.log, told or run.log
    figures = {}
    for task, surface in log_tasks(told, run.config.surfaces).items():
        chosen = log.pages_of("test", surface)
        pages = encoded_pages(log, "test", surface)
        scores = served_scores(
            score_pages(run.ranker, run.catalogue, log, chosen),
            pages.categories,
            run.calibration,
            run.objective_weights[surface],
            run.outputs,
        )
        judged = encoded_pages(told, "test", surface)
        figures[task] = task_figures(
            judged, scores, log.selection.pages[chosen], told.schema.categories
        )
    return figures


def write_modalities(out: Path, name: str, result: ModalityResult) -> tuple[Path, Path]:
    """Write `<out>/modalities.json` and `<out>/modalities.html`, each whole or not at all."""
    paths = out / "modalities.json", out / "modalities.html"
    write_text(paths[0], json.dumps(modalities_json(name, result), indent=1) + "\n")
    write_sheet(paths[1], modality_sheet(name, result))
    return paths


def modalities_json(name: str, result: ModalityResult) -> dict[str, Any]:
    """Return plain JSON values; NaN as null."""
    left_out = result.left_out
    value = {
        "command": command_line(),
        "commit": code_commit(),
        "evaluated": now(),
        "environment": describe_environment(),
        "name": name,
        "draws": DRAWS,
        "pages": {task: int(one.pages.size) for task, one in result.figures.items()},
        "coverage": result.coverage,
        "missing_at_serve_time": {
            modality: {task: asdict(one) for task, one in tasks.items()}
            for modality, tasks in result.missing.items()
        },
        "left_out_of_training": None
        if left_out is None
        else {
            "limits": list(limits_of(left_out)),
            "differences": {
                part.name: {task: asdict(one) for task, one in part.differences.items()}
                for part in left_out.parts
                if part.name != FULL
            },
        },
    }
    plain: dict[str, Any] = plain_json(value)
    return plain


def modality_sheet(name: str, result: ModalityResult) -> Sheet:
    """Return the tables and pictures."""
    tasks = list(result.figures)
    trained = _trained_without(result)
    head: tuple[str, ...] = ("modality", "products with it")
    head += tuple(f"{task}, missing when served" for task in tasks)
    if trained:
        head += tuple(f"{task}, left out of training" for task in tasks)
    names = list(dict.fromkeys([*result.missing, *trained]))
    rows = tuple(_row(modality, result, trained, tasks) for modality in names)
    pages = ", ".join(f"{task} {one.pages.size:,}" for task, one in result.figures.items())
    notes = [
        f"Test pages: {pages}. Figures are NDCG@10 of the full network minus that without the"
        " modality, above zero it helps; brackets are 95 % intervals of"
        f" {DRAWS:,} paired bootstrap draws of shoppers.",
        "Missing when served: the trained network, nothing known of the modality of any product."
        " Trees, where the run has some, score as before: they see no modality of the network.",
    ]
    if result.left_out is not None:
        notes.append(
            "Left out of training: networks trained anew, category and attributes as one modality"
            " (structure). " + " ".join(limits_of(result.left_out))
        )
    sections = [
        Section(
            "What each modality adds",
            (),
            (Table(head, rows),),
            tuple(_plots(result.missing, tasks, "missing when served"))
            + tuple(_plots(trained, tasks, "left out of training")),
        ),
        Section("Per category", (), tuple(_category_tables(result, tasks))),
    ]
    return Sheet(f"Modalities of {name}", tuple(notes), tuple(sections))


def _trained_without(result: ModalityResult) -> dict[str, dict[str, PairedDifference]]:
    parts = () if result.left_out is None else result.left_out.parts
    return {part.name: part.differences for part in parts if part.name != FULL}


def _row(
    modality: str,
    result: ModalityResult,
    trained: Mapping[str, Mapping[str, PairedDifference]],
    tasks: list[str],
) -> tuple[str, ...]:
    share = result.coverage.get(modality)
    row = [modality, "" if share is None else f"{100 * share:.1f} %"]
    groups = [result.missing, trained] if trained else [result.missing]
    for group in groups:
        differences = group.get(modality, {})
        row += [
            bracketed(differences[task].all, signed=True) if task in differences else ""
            for task in tasks
        ]
    return tuple(row)


def _plots(
    group: Mapping[str, Mapping[str, PairedDifference]], tasks: list[str], what: str
) -> list[str]:
    if not group:
        return []
    plots = []
    for task in tasks:
        whole: dict[str, Interval] = {name: parts[task].all for name, parts in group.items()}
        by_category = {name: parts[task].by_category for name, parts in group.items()}
        plots.append(plot_differences(whole, f"{task}: NDCG@10 lost, {what}"))
        plots.append(plot_matrix(by_category, f"{task}: thousandths of NDCG@10 lost, {what}"))
    return plots


def _category_tables(result: ModalityResult, tasks: list[str]) -> list[Table]:
    tables = []
    for task in tasks:
        names = list(result.missing)
        categories = result.missing[names[0]][task].by_category
        rows = tuple(
            (
                category,
                *(
                    bracketed(result.missing[name][task].by_category[category], signed=True)
                    for name in names
                ),
            )
            for category in categories
        )
        tables.append(Table((f"{task}, missing when served", *names), rows))
    return tables

"""Explains a whole run: what it goes by, whether explanations are faithful, what adapters do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.atomic_text import write_text
from trainer.benchmark.kept_parts import Arrays, Part, compute_parts
from trainer.explanations.categories import (
    Similarity,
    adapter_effect,
    adapter_norms,
    adapter_similarity,
    embedding_similarity,
)
from trainer.explanations.counterfactual import Action, default_actions, find_counterfactual
from trainer.explanations.fidelity import measure_fidelity
from trainer.explanations.importance import PageSample, surface_importance
from trainer.explanations.pages import (
    ExplanationError,
    LoggedPage,
    evenly_spread,
    neutral_of,
    read_pages,
    served_score,
)
from trainer.pipeline import Run
from trainer.training.provenance import code_hash, describe_environment

SPLIT = "test"
_SOURCES = (
    "explanations",
    "model",
    "training/network",
    "encoding/batches",
    "evaluation/metrics",
    "evaluation/bootstrap",
)
_ASKED_RANK = 9  # the counterfactual of the tenth product: on the page, and not in sight


@dataclass(frozen=True, slots=True)
class ExplanationPlan:
    """How much is measured.

    Attributes:
        pages: Pages of each surface for importance; evenly spread over the test pages.
        fidelity_pages: Of these, for the deletion curves.
        adapter_pages: Pages of each surface for what the adapters change.
        counterfactual_pages: Pages of each surface whose tenth product is to be lifted.
        top: Places that a counterfactual is to reach.
        seed: Of every draw.
    """

    pages: int = 200
    fidelity_pages: int = 100
    adapter_pages: int = 1000
    counterfactual_pages: int = 50
    top: int = 3
    seed: int = 1


def explain_run(run: Run, plan: ExplanationPlan, *, progress: bool) -> dict[str, Any]:
    """Return everything measured of a run, as plain JSON values; finished parts are read back.

    Raises:
        ExplanationError: When no surface of the run has a test page.
    """
    surfaces = [name for name in run.config.surfaces if run.log.pages_of(SPLIT, name).size]
    if not surfaces:
        raise ExplanationError(
            f"test pages: got none of {', '.join(run.config.surfaces)}, want some to explain"
        )
    made_from = [run.folder.name, run.result.progress.best_step, code_hash(_SOURCES), asdict(plan)]
    parts = [
        Part(f"{what} on {surface}", made_from, _Measurement(run, plan, what, surface))
        for surface in surfaces
        for what in _MEASURES
    ]
    done = compute_parts(parts, run.folder / "explanations", progress=progress)
    similar = (
        adapter_similarity(run.ranker, run.log.schema),
        embedding_similarity(run.ranker, run.log.schema),
    )
    return {
        "run": run.folder.name,
        "config": run.config.name,
        "environment": describe_environment(),
        "plan": asdict(plan),
        "surfaces": {
            surface: {what: done[f"{what} on {surface}"].facts for what in _MEASURES}
            for surface in surfaces
        },
        "similarity": [_similarity_json(each) for each in similar if each is not None],
        "adapter_norms": adapter_norms(run.ranker, run.log.schema),
    }


@dataclass(frozen=True, slots=True)
class _Measurement:
    """One measure of one surface, as a part that is kept."""

    run: Run
    plan: ExplanationPlan
    what: str
    surface: str

    def __call__(self) -> tuple[Arrays, dict[str, Any]]:
        random = np.random.default_rng((self.plan.seed, list(_MEASURES).index(self.what)))
        facts: dict[str, Any] = _MEASURES[self.what](self, random)
        return {}, plain_numbers(facts)

    def pages(self, most: int) -> list[LoggedPage]:
        numbers = evenly_spread(self.run.log.pages_of(SPLIT, self.surface), most)
        pages = read_pages(self.run, numbers)
        return [page for page in pages if page.scored.size > 1]


def _importance(part: _Measurement, random: np.random.Generator) -> dict[str, Any]:
    run, schema = part.run, part.run.log.schema
    pages = part.pages(part.plan.pages)
    found = surface_importance(
        pages, schema, neutral_of(run), served_score(run), random, progress=True
    )
    return asdict(found)


def _fidelity(part: _Measurement, random: np.random.Generator) -> dict[str, Any]:
    run, schema = part.run, part.run.log.schema
    pages = part.pages(part.plan.fidelity_pages)
    found = measure_fidelity(
        pages, schema, neutral_of(run), served_score(run), random, progress=True
    )
    return asdict(found)


def _adapters(part: _Measurement, random: np.random.Generator) -> dict[str, Any]:
    del random  # nothing is drawn
    sample = PageSample(part.pages(part.plan.adapter_pages), served_score(part.run))
    return asdict(adapter_effect(part.run.ranker, sample, part.run.log.schema))


def _counterfactuals(part: _Measurement, random: np.random.Generator) -> dict[str, Any]:
    """Ask of the tenth product of each page what would bring it to the top."""
    del random
    run, plan = part.run, part.plan
    actions = default_actions(run.log)
    pages = part.pages(plan.counterfactual_pages)
    return {"top": plan.top, **ask_of_tenth(run, pages, actions, plan.top)}


def ask_of_tenth(
    run: Run, pages: Sequence[LoggedPage], actions: Sequence[Action], top: int
) -> dict[str, Any]:
    """Return how often the tenth product of a page can be lifted among the first `top`, and how."""
    score, schema = served_score(run), run.log.schema
    asked = found = scored = 0
    costs: list[float] = []
    by_feature: dict[str, int] = {}
    lifted: list[int] = []
    for page in pages:
        if page.scored.size <= _ASKED_RANK or not actions:
            continue
        scores = score([page.scored])[0]
        tenth = int(np.argsort(-scores, kind="stable")[_ASKED_RANK])
        answer = find_counterfactual(page, tenth, top, actions, schema, score)
        asked += 1
        scored += answer.scored
        found += answer.found
        lifted.append(answer.rank_before - answer.rank_after)
        if answer.found:
            costs.append(answer.cost)
            key = " + ".join(sorted(answer.changes))
            by_feature[key] = by_feature.get(key, 0) + 1
    return {
        "asked": asked,
        "found": found,
        "mean_cost": float(np.mean(costs)) if costs else None,
        "mean_places_lifted": float(np.mean(lifted)) if lifted else None,
        "by_feature": dict(sorted(by_feature.items(), key=lambda item: -item[1])),
        "pages_scored": scored,
        "actions": [asdict(action) for action in actions],
    }


_MEASURES: dict[str, Any] = {
    "importance": _importance,
    "fidelity": _fidelity,
    "adapters": _adapters,
    "counterfactuals": _counterfactuals,
}


def write_explanation(path: Path, explained: dict[str, Any]) -> None:
    """Write what `explain_run` gave as JSON."""
    write_text(path, json.dumps(explained, indent=1) + "\n")


def plain_numbers(value: Any) -> Any:  # noqa: ANN401  any tree of JSON values
    """Return JSON values with numbers of six significant digits; what is not finite is null."""
    if isinstance(value, dict):
        return {str(key): plain_numbers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_numbers(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{float(value):.6g}") if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _similarity_json(similarity: Similarity) -> dict[str, Any]:
    return {
        "source": similarity.source,
        "names": list(similarity.names),
        "cosines": np.round(similarity.cosines, 3).tolist(),
        "tree": np.round(similarity.tree, 4).tolist(),
    }

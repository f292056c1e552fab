"""Fits the guard: scores validation pages with every ranking, chooses, and writes the choices down.

What a category takes is put onto the scale of the default's logits before calibration: both are
fitted to the labels (p = sigmoid(a z + b)), and the log-odds of the one are expressed in logits of
the other. So scores of a page that mixes categories stay comparable, whatever serves each.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from trainer.baselines.gbdt import Gbdt, GbdtBudget
from trainer.baselines.own_trees import OwnTrees
from trainer.baselines.single_category import categories_of_pages
from trainer.calibration.calibration import Calibration, fit_objectives
from trainer.encoding.catalogue import Catalogue
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.pageset import Doubles, Integers, Mask
from trainer.evaluation.metrics import ndcg_at_k
from trainer.export.served_outputs import ServedOutputs
from trainer.guard.cells import GuardCell, HeldScores, with_cells
from trainer.guard.guard import (
    DEFAULT,
    NETWORK_ALONE,
    OWN_TREES,
    POOLED_TREES,
    GuardChoice,
    GuardLimits,
    choose_ranking,
)
from trainer.logs.windows import expand_slices
from trainer.model.ranker import Ranker
from trainer.model.tree_term import TreeTerm
from trainer.tasks import mixed_surfaces, served_scores

_CUTOFF = 10


@dataclass(frozen=True, slots=True)
class Guarded:
    """The outcome of the guard.

    Attributes:
        term: The model's trees' part with the choices in it; None where nothing adds trees.
        choices: Of every surface and category on validation pages.
    """

    term: TreeTerm | None
    choices: tuple[GuardChoice, ...]

    @property
    def switched(self) -> frozenset[str]:
        """The surfaces with a category that another ranking than the default serves."""
        return frozenset(choice.surface for choice in self.choices if choice.switched)


def fit_guard(  # noqa: PLR0913  a run is not yet one
    ranker: Ranker,
    catalogue: Catalogue,
    log: EncodedLog,
    surfaces: tuple[str, ...],
    calibration: Calibration,
    objective_weights: Mapping[str, dict[str, float]],
    outputs: ServedOutputs | None = None,
    *,
    every: int = 1,
    limits: GuardLimits | None = None,
    progress: bool = False,
) -> Guarded:
    """Choose what serves each surface and category, and return the term that does it.

    On pages of one category the rankings are compared on the category's pages, trees of that
    category alone among them. On pages that mix categories a ranking takes over the category's
    candidates while the default keeps the others, and every page that holds one counts: lifting
    a category at the cost of the others is not ahead. There, all choices together must rank at
    least as well as the default, or none is taken.

    Args:
        ranker: Trained, with the fused term.
        catalogue: Inputs of the product tower.
        log: The encoded log.
        surfaces: Those the network was trained on.
        calibration: Of the default.
        objective_weights: Surface -> objective -> weight in the score.
        outputs: What the heads serve; the probabilities without it.
        every: Trees learn from every so many-th training page.
        limits: What a category must show; None takes the usual ones.
        progress: Whether to draw a bar.
    """
    mixed = mixed_surfaces(log, "validation", surfaces)
    budget = GbdtBudget(threads=len(os.sched_getaffinity(0)))
    alone = OwnTrees(log, categories_of_pages(log), budget, every)
    cells: list[GuardCell] = []
    choices: list[GuardChoice] = []
    for surface in surfaces:
        if not log.pages_of("validation", surface).size:
            continue
        judge = _Judge(
            HeldScores.of(ranker, catalogue, log, surface, budget, every),
            None if surface in mixed else alone,
            _Served(calibration, objective_weights[surface], outputs),
            limits or GuardLimits(),
        )
        bar = tqdm(judge.categories(), desc=f"Guard, {surface}", disable=not progress, leave=False)
        chosen = [judge.choose(category) for category in bar]
        taken = [cell for _, cell in chosen if cell is not None]
        if taken and not judge.better_together(taken):
            taken, chosen = [], [(_reverted(choice), None) for choice, _ in chosen]
        choices += [choice for choice, _ in chosen]
        cells += taken
    return Guarded(with_cells(ranker.tree_term, cells, log), tuple(choices))


@dataclass(frozen=True, slots=True)
class _Served:
    """From logits to the score that is served."""

    calibration: Calibration
    weights: dict[str, float]
    outputs: ServedOutputs | None

    def __call__(self, logits: Doubles, categories: np.ndarray) -> Doubles:
        return served_scores(logits, categories, self.calibration, self.weights, self.outputs)


class _Judge:
    """Compares rankings with the default on the validation pages of one surface."""

    def __init__(
        self,
        held: HeldScores,
        alone: OwnTrees | None,
        served: _Served,
        limits: GuardLimits,
    ) -> None:
        """Score the default; `alone` is None where pages mix categories."""
        self._held, self._alone, self._limits = held, alone, limits
        self._served = served
        self._gains = held.pages.objective(held.pages.objectives[0])
        self._of_pages = held.pages.page_categories()
        self._every = np.arange(held.pages.pages)
        self._default = self._ndcg(self._every, held.default)

    def categories(self) -> list[int]:
        """Return the category rows to decide on; row 0, of categories never seen, is not one."""
        found = self._held.pages.categories if self._alone is None else self._of_pages
        return [int(row) for row in np.unique(found) if row > 0]

    def choose(self, category: int) -> tuple[GuardChoice, GuardCell | None]:
        """Return the choice for a category, and what it takes where that is not the default."""
        held = self._held
        pages = self._pages_of(category)
        cells = self._cells(category) if self._scored(pages) >= self._limits.pages else []
        rivals = {cell.name: self._ndcg(pages, self._taken([cell])) for cell in cells}

        def compared() -> GuardChoice:
            return choose_ranking(
                held.name,
                held.names[category],
                self._default[pages],
                rivals,
                held.pages.shopper[pages].astype(np.int64),
                self._limits,
            )

        choice = compared()
        if choice.choice == OWN_TREES:
            fair = self._cross_fitted(category)
            rivals |= {} if fair is None else {OWN_TREES: self._ndcg(pages, self._taken([fair]))}
            if fair is None:
                del rivals[OWN_TREES]
            choice = compared()
        return choice, next((cell for cell in cells if cell.name == choice.choice), None)

    def better_together(self, cells: list[GuardCell]) -> bool:
        """Whether all choices at once rank the surface's pages at least as well as the default."""
        together = self._ndcg(self._every, self._taken(cells))
        return bool(np.nanmean(together) >= np.nanmean(self._default))

    def _pages_of(self, category: int) -> Integers:
        if self._alone is not None:
            return np.flatnonzero(self._of_pages == category)
        pages = self._held.pages
        return np.flatnonzero(pages.sums(pages.categories == category) > 0)

    def _scored(self, pages: Integers) -> int:
        return int((~np.isnan(self._default[pages])).sum())

    def _inside(self, category: int) -> Mask:
        """Flag the candidates that a choice for the category takes over, shape (rows,)."""
        pages = self._held.pages
        inside: Mask = pages.categories == category
        if self._alone is not None:
            inside &= self._of_pages[pages.page_of_row] == category
        return inside

    def _cells(self, category: int) -> list[GuardCell]:
        """Return what each other ranking would give to the category."""
        held, inside = self._held, self._inside(category)
        cells = []
        if held.pooled is not None:
            if (held.default[inside] != held.network[inside]).any():
                cells.append(self._cell(category, NETWORK_ALONE, None, held.network[inside]))
            cells.append(
                self._cell(
                    category, POOLED_TREES, held.pooled, self._columns(held.trees[inside], category)
                )
            )
        own = None if self._alone is None else self._alone.train(category, held.name)
        if own is not None:
            scores = own(held.pages.select(self._of_pages == category))
            cells.append(self._own_cell(category, own, scores))
        return cells

    def _cross_fitted(self, category: int) -> GuardCell | None:
        """Return the cell of own trees that did not stop on the pages they are judged on."""
        assert self._alone is not None  # own trees are compared on pages of one category only
        scores = self._alone.cross_fitted_scores(category, self._held.name)
        return None if scores is None else self._own_cell(category, None, scores)

    def _own_cell(self, category: int, model: Gbdt | None, scores: Doubles) -> GuardCell:
        """Return the cell of own trees with their `scores` of the category's pages."""
        of_page = self._of_pages[self._held.pages.page_of_row] == category
        kept = self._inside(category)[of_page]
        return self._cell(category, OWN_TREES, model, self._columns(scores[kept], category))

    def _cell(self, category: int, name: str, model: Gbdt | None, raw: Doubles) -> GuardCell:
        """Express the log-odds of a ranking in logits of the default: (a z + b - B) / A."""
        inside = self._inside(category)
        labels, counted = self._held.pages.labels[inside], self._held.counted[inside]
        one = np.zeros(raw.shape[0], np.int64)
        default, own = (
            fit_objectives(labels, logits, one, counted, 1)
            for logits in (self._held.default[inside], raw)
        )
        under = default.scale[0].astype(np.float64)
        # what could not be fitted is no log-odds: there the network's own logit stays
        taken = self._held.taken & np.array(
            [
                np.unique(labels[kept, column]).size == 2  # noqa: PLR2004  0 and 1
                for column, kept in enumerate(counted.T)
            ]
        )
        return GuardCell(
            surface=self._held.row,
            category=category,
            name=name,
            model=model,
            raw=np.where(taken, raw, self._held.network[inside]),
            taken=taken,
            factor=np.where(taken, own.scale[0] / under, 1.0),
            shift=np.where(taken, (own.bias[0] - default.bias[0]) / under, 0.0),
        )

    def _columns(self, scores: Doubles, category: int) -> Doubles:
        """Return the trees' score of a category's candidates as that of every taken objective."""
        network = self._held.network[self._inside(category)]
        return np.where(self._held.taken, scores[:, None], network)

    def _taken(self, cells: list[GuardCell]) -> Doubles:
        """Return the logits of all rows with what these cells take over."""
        logits = self._held.default.copy()
        for cell in cells:
            logits[self._inside(cell.category)] = cell.logits
        return logits

    def _ndcg(self, pages: Integers, logits: Doubles) -> Doubles:
        """Return the NDCG@10 of the served score on each of `pages`."""
        held = self._held.pages
        sizes = held.sizes[pages]
        _, rows = expand_slices(held.offsets[pages], sizes)
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        scores = self._served(logits[rows], held.categories[rows])
        return ndcg_at_k(self._gains[rows], scores, offsets, _CUTOFF)


def _reverted(choice: GuardChoice) -> GuardChoice:
    if not choice.switched:
        return choice
    reason = f"{choice.reason}, but all choices of the surface together rank below the default"
    return replace(choice, choice=DEFAULT, reason=reason)

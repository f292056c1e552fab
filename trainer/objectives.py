"""How objectives are learned, served and judged: `[[objective]]` tables of a run.

What the label of an objective is, its log says; see `trainer.logs.labels`. A head is an objective
together with its label.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rerank_server.contract.errors import nearest
from trainer.errors import ConfigError
from trainer.logs.labels import AMOUNTS, Label, LabelType

Among = Literal["all", "never_bought", "bought"]
Space = Literal["observed", "whole"]
Loss = Literal["", "listwise", "pointwise", "poisson", "lognormal", "huber", "weighted_logistic"]
Link = Literal["sigmoid", "exp", "expm1"]
Mask = npt.NDArray[np.bool_]

# What a loss is learned for; the first that fits a head is taken where none is named.
_LOSSES: dict[LabelType, tuple[Loss, ...]] = {
    "binary": ("listwise", "pointwise"),
    "graded": ("listwise", "pointwise"),
    "count": ("poisson",),
    "value": ("lognormal", "huber", "poisson"),
    "dwell": ("weighted_logistic", "huber", "lognormal"),
}
_METRICS: dict[LabelType, str] = {
    "binary": "ndcg@10",
    "graded": "ndcg@10",
    "count": "rmse",
    "value": "rmse_log1p",
    "dwell": "rmse_log1p",
}
METRICS = ("ndcg@K", "hit@K", "mrr", "auc", "rmse", "rmse_log1p")
_METRIC = re.compile(r"(ndcg|hit)@[1-9][0-9]*|mrr|auc|rmse|rmse_log1p")


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective of a run.

    Attributes:
        name: One of the log's objectives.
        weight: Share in the loss.
        given: Another, binary objective of the run: this one is learned on the candidates where
            that happened, so that it is conditional on it. Empty: on all.
        among: Only candidates that the shopper never bought before count, only those bought
            before, or all.
        space: With `given`: `observed` serves the conditional output; `whole` serves it times
            the probability of `given`, so over all candidates, and learns a binary objective
            through that product (ESMM).
        loss: Empty takes the usual one of the label's type.
        metric: What it is judged by, one of `METRICS`; empty takes the usual one.
    """

    name: str
    weight: float = 1.0
    given: str = ""
    among: Among = "all"
    space: Space = "observed"
    loss: Loss = ""
    metric: str = ""


# Objectives whose name alone says more than the defaults: only what was never bought can be tried.
BUILT_IN = {"trial": Objective("trial", among="never_bought")}


def objective_named(name: str) -> Objective:
    """Return the objective that a name alone stands for."""
    return BUILT_IN.get(name, Objective(name))


def contradictions(objective: Objective) -> list[str]:
    """Return what is of the right type in a table and still cannot be used."""
    wrong = []
    if not 0 <= objective.weight < math.inf:
        wrong.append(f"weight: got {objective.weight}, want a number >= 0")
    if objective.space == "whole" and not objective.given:
        wrong.append("space: got 'whole' without given, want the objective it is conditional on")
    if objective.given == objective.name:
        wrong.append(f"given: got {objective.given!r} itself, want another objective")
    if objective.metric and not _METRIC.fullmatch(objective.metric):
        wrong.append(
            f"metric: got {objective.metric!r}, want one of {', '.join(METRICS)}"
            f"{nearest(objective.metric, METRICS)}"
        )
    return wrong


def unknown_givens(objectives: Sequence[Objective]) -> list[str]:
    """Return what is wrong with the conditions of a run's objectives taken together."""
    by_name = {objective.name: objective for objective in objectives}
    wrong = []
    for objective in objectives:
        parent = by_name.get(objective.given)
        where = f"objective {objective.name!r}: "
        if objective.given and parent is None:
            others = [name for name in by_name if name != objective.name]
            wrong.append(
                f"{where}given: got {objective.given!r}, want one of {', '.join(others)}"
                f"{nearest(objective.given, others)}"
            )
        elif objective.space == "whole" and parent and parent.given and parent.space != "whole":
            wrong.append(
                f"{where}space: got 'whole' given {parent.name!r}, which is itself conditional on "
                f"{parent.given!r}, want space 'whole' there too"
            )
        seen = {objective.name}
        while parent is not None and parent.name not in seen:
            seen.add(parent.name)
            parent = by_name.get(parent.given)
        if parent is not None and parent.name == objective.name and len(seen) > 1:
            wrong.append(f"{where}given: got a circle of {', '.join(sorted(seen))}, want none")
    return wrong


@dataclass(frozen=True, slots=True)
class Head:
    """What the network predicts in one column of its logits.

    Attributes:
        objective: How it is learned.
        label: What it is.
        parent: Column of the head that `given` names, -1 without one.
        scale: Of an amount: the mean over the training candidates that have some, so that
            logits of any unit are of the same size.
    """

    objective: Objective
    label: Label
    parent: int = -1
    scale: float = 1.0

    @property
    def name(self) -> str:
        """The objective's name."""
        return self.objective.name

    @property
    def amount(self) -> bool:
        """Whether it is served as an amount in its own unit, not as a number in [0, 1]."""
        return self.label.type in AMOUNTS

    @property
    def whole(self) -> bool:
        """Whether it is served times the probability of its condition."""
        return self.objective.space == "whole"

    @property
    def loss(self) -> Loss:
        """What it is learned by."""
        if self.objective.loss:
            return self.objective.loss
        known = _LOSSES[self.label.type]
        return next(loss for loss in known if not _misplaced(loss, self.objective))

    @property
    def metric(self) -> str:
        """What it is judged by."""
        return self.objective.metric or _METRICS[self.label.type]

    @property
    def link(self) -> Link:
        """From a logit to what is served."""
        if not self.amount:
            return "sigmoid"
        return "expm1" if self.loss == "huber" else "exp"

    @property
    def largest_gain(self) -> float:
        """2^largest - 1 of grades, else 1."""
        return 2.0**self.label.largest - 1 if self.label.type == "graded" else 1.0

    @property
    def meaning(self) -> str:
        """What the served number is, in words."""
        what = {
            "binary": f"probability of {self.name}",
            "graded": f"expected gain of {self.name}, as a share of the largest gain",
        }.get(self.label.type, f"expected {self.name}")
        unit = "seconds" if self.label.type == "dwell" else ""
        unit = self.label.unit or unit
        what += f" in {unit}" if unit and self.amount else ""
        if self.whole:
            joined = ", times the probability of " if self.amount else " and "
            what += f"{joined}{self.objective.given}"
        elif self.objective.given:
            what += f" given {self.objective.given}"
        among = {"never_bought": "never bought before", "bought": "bought before"}
        if self.objective.among in among:
            what += f", for what was {among[self.objective.among]}"
        return what


def _misplaced(loss: Loss, objective: Objective) -> str:
    """Return why a loss cannot be used with an objective's condition; empty where it can."""
    if loss == "lognormal" and not objective.given:
        return "want given with lognormal: the objective that says whether there is any"
    if loss == "weighted_logistic" and objective.given:
        return "want no given with weighted_logistic: it learns from those without any too"
    return ""


def heads_of(objectives: Sequence[Objective], labels: Mapping[str, Label]) -> tuple[Head, ...]:
    """Return the heads of a run's objectives.

    Args:
        objectives: In output order.
        labels: The log's, by name.

    Raises:
        ConfigError: All that does not fit together.
    """
    names = [objective.name for objective in objectives]
    for name in names:
        if name not in labels:
            raise ConfigError(
                f"objectives: got {name!r}, want some of the log's: {', '.join(labels)}"
                f"{nearest(name, labels)}"
            )
    wrong = [f"objective {n!r}: got it twice, want it once" for n in names if names.count(n) > 1]
    wrong += unknown_givens(objectives)
    for objective in objectives:
        label = labels[objective.name]
        where = f"objective {objective.name!r}: "
        if objective.loss and objective.loss not in _LOSSES[label.type]:
            wrong.append(
                f"{where}loss: got {objective.loss!r}, want one of "
                f"{', '.join(_LOSSES[label.type])} for type {label.type}"
            )
        if objective.loss and (reason := _misplaced(objective.loss, objective)):
            wrong.append(f"{where}{reason}")
        given = labels.get(objective.given)
        if given is not None and given.type != "binary":
            wrong.append(
                f"{where}given: got {given.name!r} of type {given.type}, want a binary one"
            )
        if objective.metric == "auc" and label.type != "binary":
            wrong.append(f"{where}metric: got auc of type {label.type}, want a binary one")
    first = labels[names[0]]
    if first.type in AMOUNTS or objectives[0].given:
        wrong.append(
            f"objective {first.name!r}: got it first, want a binary or graded one without given "
            "first: pages are ordered by it"
        )
    if wrong:
        raise ConfigError("; ".join(wrong))
    return tuple(
        Head(objective, labels[objective.name], names.index(objective.given))
        if objective.given
        else Head(objective, labels[objective.name])
        for objective in objectives
    )


def never_reads_history(heads: Sequence[Head]) -> bool:
    """Return whether no head asks what the shopper bought before."""
    return all(head.objective.among == "all" for head in heads)


def counted_candidates(
    heads: Sequence[Head], labels: npt.NDArray[np.generic], bought: Mask | None
) -> Mask:
    """Return which candidates say something of each head's own output, shape (rows, heads).

    These are the candidates that `among` and `given` leave.

    Args:
        heads: The heads.
        labels: Their labels, shape (rows, heads).
        bought: Which candidates the shopper bought before, shape (rows,); may be None when
            `never_reads_history`.
    """
    counted = served_candidates(heads, labels, bought)
    for index, head in enumerate(heads):
        if head.parent >= 0:
            counted[:, index] &= labels[:, head.parent] > 0  # type: ignore[operator]
    return counted


def served_candidates(
    heads: Sequence[Head], labels: npt.NDArray[np.generic], bought: Mask | None
) -> Mask:
    """Return which candidates say something of what each head serves, shape (rows, heads).

    As `counted_candidates`, but an output over the whole space is judged on all candidates.
    """
    counted = np.ones((labels.shape[0], len(heads)), np.bool_)
    for index, head in enumerate(heads):
        if head.objective.among != "all" and bought is not None:
            counted[:, index] = bought if head.objective.among == "bought" else ~bought
        if head.parent >= 0 and not head.whole:
            counted[:, index] &= labels[:, head.parent] > 0  # type: ignore[operator]
    return counted


def served_labels(
    heads: Sequence[Head], labels: npt.NDArray[np.generic]
) -> npt.NDArray[np.float64]:
    """Return what each head should have served, shape (rows, heads).

    A label over the whole space is 0 where its condition did not happen; a grade is its share of
    the largest gain.
    """
    served = labels.astype(np.float64)
    for index, head in enumerate(heads):
        if head.label.type == "graded":
            served[:, index] = (np.exp2(served[:, index]) - 1) / head.largest_gain
        parent = head.parent
        while head.whole and parent >= 0:
            served[:, index] *= labels[:, parent] > 0  # type: ignore[operator]
            parent = heads[parent].parent
    return served


def ranking_gains(head: Head, labels: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Return one head's labels as gains of NDCG, whose 2^gain - 1 is then the amount itself."""
    values = labels.astype(np.float64)
    return np.log2(1 + values) if head.amount else values

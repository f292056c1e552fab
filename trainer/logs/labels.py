"""What the label of an objective is: its type and where the log has it, `[[objective]]` of a log.

How an objective is learned is the run's matter; see `trainer.objectives`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from trainer.errors import LabelError

LabelType = Literal["binary", "graded", "count", "value", "dwell"]
Aggregate = Literal["", "sum", "max", "min", "mean", "first", "last"]
Labels: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.float32]

# Types that are an amount of something, served in its own unit; the others lie in [0, 1].
AMOUNTS: tuple[LabelType, ...] = ("count", "value", "dwell")
_NEED_COLUMN: tuple[LabelType, ...] = ("graded", "value", "dwell")
# The gain of a grade is 2^grade - 1, and LightGBM knows the gains of 0 to 30.
LARGEST_GRADE = 30


@dataclass(frozen=True, slots=True)
class Label:
    """One objective of a log.

    A candidate's label is made of the rows that say what the shopper did with it on its page:
    the events of the page's query, or in a log without searches the interactions of its basket.
    A candidate without such a row has the label 0.

    Attributes:
        name: Unique in the log.
        type: `binary` (0 or 1), `graded` (0 to `largest`), `count` (whole numbers >= 0), `value`
            (>= 0, such as money) or `dwell` (seconds, >= 0).
        kind: Rows of this kind only; empty takes all that count.
        column: Column of the rows that is read; empty makes each row a 1. Rows where it is
            missing are passed over.
        aggregate: What is made of several rows; empty is `max` of grades and `sum` of the rest.
        above: A binary label is 1 where the aggregate is above this.
        largest: The largest grade.
        first_time: Rows at the shopper's first time with the product only.
        unit: Of an amount, such as `EUR`; for people to read.
    """

    name: str
    type: LabelType = "binary"
    kind: str = ""
    column: str = ""
    aggregate: Aggregate = ""
    above: float = 0.0
    largest: int = 0
    first_time: bool = False
    unit: str = ""


# Of a log whose pages are baskets. What a run makes of the names, `trainer.objectives` says.
BASKET_LABELS = (
    Label("purchase"),
    Label("trial", first_time=True),
    Label("discount", column="discount"),
)


def value_column(column: str) -> str:
    """Return the name that a column which labels read has in the tables of a log."""
    return f"value:{column}"


def kind_labels(kinds: Sequence[str]) -> tuple[Label, ...]:
    """Return one binary label per kind of event."""
    return tuple(Label(kind, kind=kind) for kind in kinds)


def contradictions(label: Label) -> list[str]:
    """Return what is of the right type in a table and still cannot be used."""
    wrong = []
    if label.type in _NEED_COLUMN and not label.column:
        wrong.append(f"column: got none, want the column that holds the {label.type}")
    if label.type == "graded" and not 1 <= label.largest <= LARGEST_GRADE:
        wrong.append(f"largest: got {label.largest}, want the largest grade, 1 to {LARGEST_GRADE}")
    if label.type != "graded" and label.largest:
        wrong.append(f"largest: got {label.largest}, want none for type {label.type}")
    if label.type != "binary" and label.above:
        wrong.append(f"above: got {label.above}, want none for type {label.type}")
    if not np.isfinite(label.above) or label.above < 0:
        wrong.append(f"above: got {label.above}, want a number >= 0")
    if label.type == "count" and label.aggregate == "mean":
        wrong.append("aggregate: got 'mean' of a count, want one that keeps numbers whole")
    return wrong


def label_of_rows(
    label: Label,
    group: npt.NDArray[np.int64],
    groups: int,
    values: npt.NDArray[Any] | None,
    counted: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """Return the label of each group of rows, shape (groups,); 0 for a group without any.

    Args:
        label: What is wanted.
        group: Which group each row is of, shape (rows,), 0 to `groups` - 1; within a group rows
            are in order of time.
        groups: Number of groups.
        values: The label's column, shape (rows,), NaN is missing; None where it has no column.
        counted: Which rows count, shape (rows,).

    Raises:
        LabelError: When a label is outside the range of its type.
    """
    if values is None:
        values = np.ones(group.size)
    used = counted & ~np.isnan(values)
    made = _aggregate(label, group[used], groups, values[used].astype(np.float64))
    if label.type == "binary":
        return (made > label.above).astype(np.float64)
    check_range(label, made)
    return made


def _aggregate(
    label: Label,
    group: npt.NDArray[np.int64],
    groups: int,
    values: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    how = label.aggregate or ("max" if label.type == "graded" else "sum")
    present, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    made = np.zeros(groups)
    if how in ("sum", "mean"):
        total = np.bincount(inverse, values, present.size)
        made[present] = total / np.bincount(inverse) if how == "mean" and group.size else total
    elif how == "first":
        made[present] = values[first]
    elif how == "last":
        made[group] = values  # of equal indices, numpy keeps the last
    else:
        extreme = np.full(present.size, -np.inf if how == "max" else np.inf)
        (np.maximum if how == "max" else np.minimum).at(extreme, inverse, values)
        made[present] = extreme
    return made


def check_range(label: Label, values: npt.NDArray[np.float64]) -> None:
    """Refuse labels outside the range of their type.

    Raises:
        LabelError: Names the objective, how many are wrong and one of them.
    """
    wrong = ~np.isfinite(values) | (values < 0)
    want = "numbers of 0 or more"
    if label.type in ("graded", "count"):
        wrong |= values != np.floor(values)
        want = "whole numbers of 0 or more"
    if label.type == "graded":
        wrong |= values > label.largest
        want = f"whole grades of 0 to {label.largest}"
    if label.type == "binary":
        wrong |= values > 1
        want = "0 to 1"
    if wrong.any():
        column = f" (column {label.column!r})" if label.column else ""
        raise LabelError(
            f"objective {label.name!r}{column}: got {int(wrong.sum())} labels out of range, "
            f"{values[wrong][0]:g} among them, want {want} for type {label.type}"
        )


def packed(labels: Sequence[Label], columns: npt.NDArray[np.float64]) -> Labels:
    """Return labels, shape (rows, objectives), as 0 or 1 in bytes where all are, else float32."""
    if all(label.type == "binary" for label in labels):
        return columns.astype(np.uint8)
    return columns.astype(np.float32)

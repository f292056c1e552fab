"""Cleaning that is reported: rows in, rows out, and why the others went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import narwhals as nw

Reason = tuple[str, nw.Expr]

_REASON_COLUMN = "cleaning_reason"


@dataclass(frozen=True, slots=True)
class TableCleaning:
    """What cleaning did to one table.

    Attributes:
        table: Name of the table.
        rows_in: Rows read.
        rows_out: Rows kept; `rows_in` minus the sum of `dropped`.
        dropped: Rows dropped by reason, in the order the reasons were tried. A row that has
            several reasons counts under the first.
    """

    table: str
    rows_in: int
    rows_out: int
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CleaningReport:
    """What cleaning did to each table of a log."""

    tables: tuple[TableCleaning, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values, tables by name."""
        return {
            table.table: {
                "rows_in": table.rows_in,
                "rows_out": table.rows_out,
                "dropped": dict(table.dropped),
            }
            for table in self.tables
        }

    def to_table(self) -> str:
        """Return the report as a table for a terminal, one line per count."""
        lines: list[tuple[str, str, str]] = []
        for table in self.tables:
            lines.append((table.table, "rows in", f"{table.rows_in:,}"))
            lines += [("", f"- {reason}", f"{rows:,}") for reason, rows in table.dropped.items()]
            lines.append(("", "rows out", f"{table.rows_out:,}"))
        widths = [max((len(line[i]) for line in lines), default=0) for i in range(3)]
        return "\n".join(
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in lines
        )


def report_from_json(value: Mapping[str, Any]) -> CleaningReport:
    """Read what `CleaningReport.to_json` gave."""
    return CleaningReport(
        tuple(
            TableCleaning(table, counts["rows_in"], counts["rows_out"], counts["dropped"])
            for table, counts in value.items()
        )
    )


def drop_rows(
    table: str, frame: nw.LazyFrame[Any], reasons: Sequence[Reason]
) -> tuple[nw.DataFrame[Any], TableCleaning]:
    """Drop the rows for which any reason holds and count each row under the first that does.

    Args:
        table: Name of the table, for the report.
        frame: The rows as read.
        reasons: Names with boolean expressions; null counts as false.

    Returns:
        The kept rows, collected, and the counts (reasons that hold for no row are left out).
    """
    marked = frame.with_columns(_first_reason(reasons).alias(_REASON_COLUMN)).collect()
    counts = marked.group_by(_REASON_COLUMN).agg(nw.len().alias("rows"))
    by_reason = dict(zip(counts[_REASON_COLUMN].to_list(), counts["rows"].to_list(), strict=True))
    dropped = {
        name: int(by_reason[index])
        for index, (name, _) in enumerate(reasons)
        if by_reason.get(index)
    }
    kept = marked.filter(nw.col(_REASON_COLUMN) < 0).drop(_REASON_COLUMN)
    return kept, TableCleaning(table, len(marked), len(kept), dropped)


def drop_duplicates(
    frame: nw.DataFrame[Any], cleaning: TableCleaning, reason: str
) -> tuple[nw.DataFrame[Any], TableCleaning]:
    """Drop rows that equal another in every column, and add their number to the counts."""
    kept = frame.unique()
    dropped = dict(cleaning.dropped)
    if len(kept) < len(frame):
        dropped[reason] = len(frame) - len(kept)
    return kept, TableCleaning(cleaning.table, cleaning.rows_in, len(kept), dropped)


def _first_reason(reasons: Sequence[Reason]) -> nw.Expr:
    """Return the index of the first reason that holds, -1 where none does."""
    expression = nw.lit(-1, dtype=nw.Int32())
    for index, (_, holds) in reversed(list(enumerate(reasons))):
        expression = nw.when(holds.fill_null(False)).then(nw.lit(index)).otherwise(expression)  # noqa: FBT003
    return expression.cast(nw.Int32())

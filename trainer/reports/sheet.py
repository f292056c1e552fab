"""A page of sections, tables and pictures, as text for the terminal and as one HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from trainer.atomic_text import write_text
from trainer.evaluation.evaluation_tables import aligned


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a head.

    Attributes:
        head: Names of the columns; the first holds words, the others figures.
        rows: Each as long as the head.
        verdicts: `win`, `tie`, `loss` or nothing of each row, which colours it; none at all
            colours no row.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    verdicts: tuple[str, ...] = ()

    @property
    def marked(self) -> list[tuple[str, tuple[str, ...]]]:
        """Each row with its verdict."""
        return list(zip(self.verdicts or [""] * len(self.rows), self.rows, strict=True))


@dataclass(frozen=True, slots=True)
class Section:
    """What stands under one heading.

    Attributes:
        heading: Of the section.
        text: Paragraphs.
        tables: Shown after the text.
        plots: `<svg>` elements, shown last, in HTML alone.
    """

    heading: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sheet:
    """A title, notes under it, and sections."""

    title: str
    notes: tuple[str, ...]
    sections: tuple[Section, ...]


def templates() -> Environment:
    """Return the templates of the trainer's pages; a name that is not given is an error."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_sheet(path: Path, sheet: Sheet) -> None:
    """Write the page as one HTML file, whole or not at all."""
    environment = templates()
    environment.filters["markup"] = Markup
    write_text(path, environment.get_template("sheet.html").render(sheet=sheet))


def table_markdown(table: Table) -> str:
    """Return a table as Markdown."""
    lines = [table.head, ("---",) * len(table.head), *table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sheet_text(sheet: Sheet) -> str:
    """Return the page as text: everything but the pictures."""
    parts = ["\n".join([sheet.title, *sheet.notes])]
    for section in sheet.sections:
        if section.text or section.tables:
            parts.append("\n".join([section.heading, *section.text]))
        parts += [aligned([list(table.head), *map(list, table.rows)]) for table in section.tables]
    return "\n\n".join(parts)

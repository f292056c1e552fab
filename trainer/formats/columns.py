"""The five formats of a data folder, and how one is told from another: by its tables' columns.

A folder holds one file per table: Parquet, CSV, tab-separated or JSON lines, the last three also
compressed (`.gz`, `.xz`). File names do not matter but for a run, see `FORMATS`. A column has one
of several usual names; those of each are listed in `ALIASES`, case and `_` do not count.
"""

from __future__ import annotations

import gzip
import io
import lzma
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rerank_server.contract.errors import nearest
from trainer.formats.errors import FormatError

# The column's meaning -> names it may have in a file; the first that is there is taken.
ALIASES: dict[str, tuple[str, ...]] = {
    "shopper": ("user", "shopper", "userid", "shopperid", "customerid", "reviewerid", "visitorid"),
    "product": (
        "item",
        "product",
        "itemid",
        "productid",
        "asin",
        "docid",
        "documentid",
        "parentasin",
        "movieid",
        "sku",
    ),
    "rating": ("rating", "stars", "score", "overall"),
    "time": ("ts", "time", "timestamp", "unixtime", "unixreviewtime", "date"),
    "order": ("pos", "position", "order", "step"),
    "category": ("category", "categoryname", "department", "domain", "market", "genre"),
    "split": ("split",),
    "query": ("query", "searchterm", "querytext", "queryid", "qid", "keyword"),
    "title": ("producttitle", "title", "name", "textid", "productname"),
    "description": ("productdescription", "description", "shortdescription", "categorypathbrand"),
    "brand": ("brand", "productbrand", "supplier", "manufacturer"),
    "price": ("price", "priceminor", "productprice"),
    "grade": (
        "medianrelevance",
        "relevance",
        "grade",
        "gain",
        "judgment",
        "judgement",
        "label",
        "esci",
        "esclabel",
        "rating",
    ),
    "id": ("id", "docid", "productid", "itemid", "asin", "item", "product"),
    "candidates": ("candidates", "items", "products", "itemids", "docids", "ranking"),
    "score": ("score", "sim", "retrievalscore"),
    "rank": ("rank", "position"),
}


@dataclass(frozen=True, slots=True)
class TableSpec:
    """What makes a file a table of a format.

    Attributes:
        needed: Meanings that must be there; of `a|b`, one of both.
        optional: Meanings that are read when there.
        absent: Meanings that no such table has.
    """

    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


# Format -> table -> its columns. A `run` may have no header: query or shopper, tab, candidates
# separated by commas, best first. Its file's name then holds `run`.
FORMATS: dict[str, dict[str, TableSpec]] = {
    "run+qrel": {
        "run": TableSpec(("shopper|query", "candidates|product", "candidates|rank|score")),
        "qrel": TableSpec(("shopper|query", "product", "grade")),
    },
    "judgments+products": {
        "judgments": TableSpec(("query", "product", "grade"), absent=("title",)),
        "products": TableSpec(
            ("id", "title"), ("description", "brand", "price", "category"), ("query", "shopper")
        ),
    },
    "pairs": {
        "pairs": TableSpec(
            ("query", "title", "grade"),
            ("description", "brand", "price", "category", "product", "score"),
        ),
    },
    "interactions+items": {
        "interactions": TableSpec(
            ("shopper", "product", "time|order"), ("category", "split", "rating")
        ),
        "items": TableSpec(
            ("id", "category|title"), ("title", "description", "brand", "category"), ("shopper",)
        ),
    },
    "ratings": {
        "ratings": TableSpec(("shopper", "product", "rating", "time"), ("category",)),
    },
}
# What the parts of a format's name may be called on the command line.
NAMES: dict[str, str] = {
    "ratings": "ratings",
    "interactions": "interactions+items",
    "interactions+items": "interactions+items",
    "pairs": "pairs",
    "judgments": "judgments+products",
    "judgments+products": "judgments+products",
    "run": "run+qrel",
    "run+qrel": "run+qrel",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A file of the folder.

    Attributes:
        path: The file.
        frame: Its rows.
    """

    path: Path
    frame: pl.DataFrame

    def column(self, meaning: str) -> str | None:
        """Return the file's name of a column, None where there is none."""
        by_plain = {_plain(name): name for name in self.frame.columns}
        return next((by_plain[name] for name in ALIASES[meaning] if name in by_plain), None)

    def has(self, meanings: str) -> bool:
        """Tell whether one of `a|b` is there."""
        return any(self.column(meaning) is not None for meaning in meanings.split("|"))

    def read(self, meaning: str) -> pl.Series:
        """Return a column by its meaning.

        Raises:
            FormatError: When it is not there.
        """
        name = self.column(meaning)
        if name is None:
            raise FormatError(
                f"{self.path.name}: got columns {', '.join(self.frame.columns)}, want one of "
                f"{', '.join(ALIASES[meaning])}"
            )
        return self.frame[name]

    def text(self, *meanings: str) -> list[str]:
        """Return the text of the columns that are there, joined; "" where all are empty."""
        found = [name for name in map(self.column, meanings) if name is not None]
        parts = [self.frame[name].cast(pl.String).fill_null("") for name in found]
        if not parts:
            return [""] * self.frame.height
        rows = zip(*(part.to_list() for part in parts), strict=True)
        return [" ".join(value for value in row if value) for row in rows]


def format_name(name: str) -> str:
    """Return the format that a word of the command line names.

    Raises:
        FormatError: When it names none.
    """
    if name not in NAMES:
        raise FormatError(
            f"format: got {name!r}, want one of {', '.join(NAMES)}{nearest(name, NAMES)}"
        )
    return NAMES[name]


def read_folder(folder: Path) -> list[Table]:
    """Read every table of a folder, in order of file names.

    Raises:
        FormatError: When there is none, or a file cannot be read.
    """
    if not folder.is_dir():
        raise FormatError(f"path: got {folder}, want a folder")
    tables = [
        Table(path, _read(path))
        for path in sorted(folder.iterdir())
        if path.is_file() and _kind(path) in _KINDS
    ]
    if not tables:
        raise FormatError(f"{folder}: got no table, want files {', '.join(sorted(_KINDS))}")
    return tables


def find_tables(
    folder: Path, tables: list[Table], wanted: str | None = None
) -> tuple[str, dict[str, list[Table]]]:
    """Return the format of a folder and its tables, by the format's names of them.

    Args:
        folder: Named in errors.
        tables: From `read_folder`.
        wanted: A format of `FORMATS`; None takes the first of `FORMATS` that fits.

    Raises:
        FormatError: When none fits, or not the one that is wanted; names what was got and wanted.
    """
    fits = {name: _fit(tables, specs) for name, specs in FORMATS.items()}
    for name, fit in fits.items():
        if wanted in {None, name} and all(fit.values()):
            return name, fit
    got = "; ".join(f"{t.path.name} ({', '.join(t.frame.columns)})" for t in tables)
    if wanted is not None:
        others = [name for name, fit in fits.items() if all(fit.values())]
        hint = f"; it would fit {others[0]}" if others else ""
        raise FormatError(f"{folder.name}: got {got}, want {_describe(wanted, fits[wanted])}{hint}")
    closest = max(fits, key=lambda name: _closeness(tables, FORMATS[name]))
    raise FormatError(
        f"{folder.name}: got {got}, want one of {', '.join(FORMATS)} (nearest: {closest}, which "
        f"wants {_describe(closest, fits[closest])})"
    )


def _fit(tables: list[Table], specs: Mapping[str, TableSpec]) -> dict[str, list[Table]]:
    """Return the files that can be each table of a format; a file is one table only."""
    taken: dict[str, list[Table]] = {}
    used: set[Path] = set()
    for name, spec in specs.items():
        taken[name] = [t for t in tables if t.path not in used and _is(t, spec)]
        used |= {table.path for table in taken[name]}
    return taken


def _is(table: Table, spec: TableSpec) -> bool:
    return all(map(table.has, spec.needed)) and not any(map(table.has, spec.absent))


def _closeness(tables: list[Table], specs: Mapping[str, TableSpec]) -> float:
    """Return the share of the needed columns of a format that its most similar files have."""
    shares = [
        max(sum(map(table.has, spec.needed)) / len(spec.needed) for table in tables)
        for spec in specs.values()
    ]
    return sum(shares) / len(shares)


def _describe(name: str, fit: Mapping[str, list[Table]]) -> str:
    """Return which columns the missing tables of a format want."""
    parts = []
    for table, files in fit.items():
        if not files:
            columns = ", ".join(
                "|".join(ALIASES[meaning][0] for meaning in needed.split("|"))
                for needed in FORMATS[name][table].needed
            )
            parts.append(f"a table of {table} with the columns {columns}")
    return " and ".join(parts) or name


_KINDS = {".parquet", ".csv", ".tsv", ".jsonl"}
_OPENERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
}


def _kind(path: Path) -> str:
    """Return the suffix that says how a file is written."""
    return Path(path.stem).suffix if path.suffix in _OPENERS else path.suffix


def _read(path: Path) -> pl.DataFrame:
    kind = _kind(path)
    try:
        if kind == ".parquet":
            return pl.read_parquet(path)
        content = path.read_bytes()
        if path.suffix in _OPENERS:
            content = _OPENERS[path.suffix](content)
        if kind == ".jsonl":
            return pl.read_ndjson(content, infer_schema_length=None)
        separator = "," if kind == ".csv" else "\t"
        first = content.split(b"\n", 1)[0].split(separator.encode())
        headless = "run" in path.name.lower() and len(first) == 2 and b"," in first[1]  # noqa: PLR2004
        frame = pl.read_csv(
            io.BytesIO(content),
            separator=separator,
            has_header=not headless,
            infer_schema_length=10_000,
            quote_char='"' if kind == ".csv" else None,
        )
        return (
            frame.rename(dict(zip(frame.columns, ("query", "candidates"), strict=True)))
            if (headless)
            else frame
        )
    except (
        OSError,
        EOFError,
        lzma.LZMAError,
        UnicodeDecodeError,
        pl.exceptions.PolarsError,
    ) as error:
        raise FormatError(f"{path.name}: got {error}, want a readable {kind} table") from error


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "").lstrip("\ufeff")

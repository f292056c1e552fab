"""From a data folder to labelled pages, by the format that its columns show."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from trainer.formats.candidate_lists import pages_of_runs
from trainer.formats.columns import find_tables, format_name, read_folder
from trainer.formats.joined import joined
from trainer.formats.labelled_pages import LabelledPages
from trainer.formats.query_pages import pages_of_judgments, pages_of_pairs
from trainer.formats.shopper_pages import (
    ShopperLimits,
    pages_of_interactions,
    pages_of_ratings,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a folder is read.

    Attributes:
        format: A word of `NAMES`; empty: whatever the columns show.
        limits: Of pages and candidates, for the formats of shoppers.
        seed: Of every draw.
        source: Folder of a data set that is learned from beside, read alike.
    """

    format: str = ""
    limits: ShopperLimits = field(default_factory=ShopperLimits)
    seed: int = 7
    source: Path | None = None


def read_pages(folder: Path, reading: Reading) -> LabelledPages:
    """Return the pages of a folder.

    Raises:
        FormatError: When its columns are of no format, or not of the one that was named.
        DataError: When there is nothing to rank or to learn.
    """
    pages = _read_one(folder, reading)
    if reading.source is None:
        return pages
    others = _read_one(reading.source, replace(reading, format=""))
    return joined(pages, others, (folder.resolve().name, reading.source.resolve().name))


def _read_one(folder: Path, reading: Reading) -> LabelledPages:
    wanted = format_name(reading.format) if reading.format else None
    name, tables = find_tables(folder, read_folder(folder), wanted)
    if name == "pairs":
        return pages_of_pairs(tables["pairs"], reading.seed)
    if name == "judgments+products":
        return pages_of_judgments(tables["judgments"], tables["products"], reading.seed)
    if name == "run+qrel":
        most = sum(reading.limits.pages)
        return pages_of_runs(tables["run"], tables["qrel"], most, reading.seed)
    if name == "interactions+items":
        return pages_of_interactions(
            tables["interactions"], tables["items"], reading.limits, reading.seed
        )
    return pages_of_ratings(tables["ratings"], reading.limits, reading.seed)

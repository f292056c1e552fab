"""Small logs that tests write as files and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

DAY = 86_400
# 2017-01-01T00:00:00Z
START = 1_483_228_800

CONFIG = """
adapter = "tables"
interactions_file = "interactions.tsv"
interactions_shopper = "user"
interactions_product = "item"
interactions_time = "time"
interactions_category = "category"
train_from = 2017-01-11T00:00:00Z
validation_from = 2017-01-21T00:00:00Z
test_from = 2017-01-26T00:00:00Z
"""


def ratings(days: int = 30) -> pl.DataFrame:
    """Return one interaction per shopper and day: shopper `u` takes product `(u + day) mod 6`."""
    rows: list[dict[str, Any]] = [
        {
            "user": f"u{shopper}",
            "item": f"p{(shopper + day) % 6}",
            "time": START + day * DAY + 3_600 * shopper,
            "category": "toys" if (shopper + day) % 2 else "books",
        }
        for shopper in range(4)
        for day in range(days)
    ]
    return pl.DataFrame(rows)


def write_log(folder: Path, frame: pl.DataFrame | None = None, config: str = CONFIG) -> Path:
    """Write a log and its configuration; return the path of the configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    (ratings() if frame is None else frame).write_csv(folder / "interactions.tsv", separator="\t")
    path = folder / "log.toml"
    path.write_text(config, encoding="utf-8")
    return path

"""Tiny data folders of each format, made by rules that a reader can check by eye."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

DAY = 86_400
START = 1_500_000_000 // DAY * DAY


def write_ratings(folder: Path, *, shoppers: int = 24, days: int = 24) -> None:
    """Write one rating a day: shoppers take three products round and round, of two categories."""
    rows = []
    for shopper in range(shoppers):
        for day in range(days):
            item = (shopper % 4) * 6 + (day + shopper) % 6
            rows.append(
                {
                    "user": f"u{shopper}",
                    "item": f"p{item}",
                    "rating": 5 if day % 2 else 4,
                    "ts": START + day * DAY + shopper,
                    "category": "lanterns" if item % 2 else "kites",
                }
            )
            if day % 8 == 0:
                rows.append({**rows[-1], "item": f"p{item + 1}", "rating": 1})
    pl.DataFrame(rows).write_csv(folder / "ratings.tsv", separator="\t")


def write_interactions(folder: Path, *, shoppers: int = 40) -> None:
    """Write shoppers' orders through rings of six products, and a table of items with titles."""
    rows = []
    for shopper in range(shoppers):
        for step in range(8):
            item = (shopper % 4) * 6 + (step + shopper) % 6
            rows.append({"reviewer_id": f"u{shopper}", "asin": f"p{item}", "pos": step})
    pl.DataFrame(rows).write_parquet(folder / "interactions.parquet")
    items = [
        {
            "asin": f"p{item}",
            "category": "ropes" if item < 12 else "anvils",
            "title": f"thing {item}",
        }
        for item in range(24)
    ]
    pl.DataFrame(items).write_ndjson(folder / "items.jsonl")


def judged(queries: int, *, wrong: float = 0.0) -> list[dict[str, object]]:
    """Return judgments of made-up words: a product is as good as the query's words it holds.

    A share of them is `wrong`: drawn at random.
    """
    random = np.random.default_rng(3)
    rows = []
    for query in range(queries):
        words = [f"w{query}a", f"w{query}b", f"w{query}c"]
        for product in range(8):
            held = int(random.integers(4))
            rows.append(
                {
                    "query": " ".join(words),
                    "docid": f"d{query}-{product}",
                    "title": " ".join([*words[:held], f"model{product}"]),
                    "rating": int(random.integers(4)) if random.random() < wrong else held,
                    "category": "clocks" if query % 2 else "bells",
                }
            )
    return rows


def write_pairs(folder: Path, *, queries: int = 24, wrong: float = 0.0) -> None:
    """Write judged pairs of query and title."""
    frame = pl.DataFrame(judged(queries, wrong=wrong)).rename(
        {"title": "product_title", "rating": "median_relevance"}
    )
    frame.drop("docid").write_csv(folder / "train.csv")


def write_judgments(folder: Path, *, queries: int = 24) -> None:
    """Write judgments and the products that they name."""
    frame = pl.DataFrame(judged(queries))
    frame.select("query", "docid", "rating").write_parquet(folder / "judgments.parquet")
    products = frame.select(pl.col("docid").alias("id"), "title", "category")
    products.with_columns(price=pl.lit(100)).write_parquet(folder / "products.parquet")


def write_run(folder: Path, *, lists: int = 30) -> None:
    """Write runs of two markets without a header, their qrels, and what shoppers had before."""
    for market in ("north", "south"):
        runs, qrels, past = [], [], []
        for shopper in range(lists):
            ring = (shopper % 3) * 5
            candidates = [f"p{(shopper + place * 7) % 15}" for place in range(10)]
            relevant = next(name for name in candidates if ring <= int(name[1:]) < ring + 5)
            runs.append(f"{market}{shopper}\t{','.join(candidates)}")
            qrels.append({"userId": f"{market}{shopper}", "itemId": relevant, "rating": 1})
            past += [
                {"userId": f"{market}{shopper}", "itemId": f"p{ring + place}", "rating": 5.0}
                for place in range(5)
                if f"p{ring + place}" != relevant
            ]
        (folder / f"{market}_valid_run.tsv").write_text("\n".join(runs) + "\n", encoding="utf-8")
        for name, rows in (("valid_qrel", qrels), ("train", past)):
            pl.DataFrame(rows).write_csv(folder / f"{market}_{name}.tsv", separator="\t")


WRITERS: dict[str, Callable[..., None]] = {
    "ratings": write_ratings,
    "interactions+items": write_interactions,
    "pairs": write_pairs,
    "judgments+products": write_judgments,
    "run+qrel": write_run,
}

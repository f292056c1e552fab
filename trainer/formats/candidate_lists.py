"""Candidate lists with their relevant products as pages: the format `run+qrel`.

Files that belong together share what stands before `_run` or `_qrel` in their names, such as
`t1_valid` of `t1_valid_run.tsv`, and the part before its first `_` is the category of their pages:
a market or a shop. Other files with shopper, product and rating are the past, also of markets
without a run. Queries are dealt to folds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_matrix

from trainer.formats.columns import Table
from trainer.formats.errors import DataError
from trainer.formats.labelled_pages import LabelledPages, codes
from trainer.formats.memory import check_memory
from trainer.formats.neighbours import Neighbours, fit_neighbours, look_up
from trainer.formats.query_pages import FOLDS, grades_of, query_folds

Integers = npt.NDArray[np.int64]

_HISTORY = 32
FEATURES = (
    "own_count",
    "retrieval_rank",
    "popularity",
    "popularity_in_own_category",
    "knn_own_category",
    "knn_all",
    "past_events",
    "in_other_categories",
    "walk_all",
    "walk_own_category",
    "past_in_own_category",
)


@dataclass(frozen=True, slots=True)
class _Lists:
    """Runs of all categories: the candidates of each list in retrieval order, and their grades."""

    names: list[str]
    categories: list[str]
    candidates: list[list[str]]
    grades: list[dict[str, int]]

    def drawn(self, most: int, seed: int) -> _Lists:
        """Return at most so many lists, drawn at random, in their order."""
        return self._of(
            np.sort(np.random.default_rng(seed).permutation(len(self.names))[:most]).tolist()
        )

    def with_a_choice(self) -> _Lists:
        """Return the lists of two candidates or more."""
        return self._of(
            [index for index, candidates in enumerate(self.candidates) if len(candidates) > 1]
        )

    def _of(self, kept: list[int]) -> _Lists:
        return _Lists(
            [self.names[index] for index in kept],
            [self.categories[index] for index in kept],
            [self.candidates[index] for index in kept],
            [self.grades[index] for index in kept],
        )


def pages_of_runs(runs: list[Table], judged: list[Table], most: int, seed: int) -> LabelledPages:
    """Return the pages of runs that have a qrel.

    The features are made of the past alone, all of it; no qrel is among it.

    Args:
        runs: Tables of candidates.
        judged: Qrels, which have `qrel` in their names where the past is among these.
        most: Lists that are kept, drawn at random.
        seed: Of the draws.

    Raises:
        DataError: When no list has a judged product.
    """
    qrels = [table for table in judged if "qrel" in table.path.name.lower()] or judged
    found = _read_lists(runs, qrels)
    lists = found.with_a_choice()
    left_out = len(found.names) - len(lists.names)
    lists = lists.drawn(most, seed)
    check_memory(
        sum(map(len, lists.candidates)), len(FEATURES), 0, "smaller --pages, which bound the lists"
    )
    past = _Past.read([table for table in judged if all(table is not qrel for qrel in qrels)])
    ids = sorted({name for page in lists.candidates for name in page} | set(past.products))
    row_of = {name: row for row, name in enumerate(ids)}
    sizes = np.array([len(page) for page in lists.candidates])
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rows = np.array([row_of[name] for page in lists.candidates for name in page], np.int64)
    grades = [
        grade.get(name, 0)
        for page, grade in zip(lists.candidates, lists.grades, strict=True)
        for name in page
    ]
    of_page, categories = codes(lists.categories)
    # a product on lists of several categories is one product in each of them
    listed, inverse = np.unique(
        np.stack([np.repeat(of_page, sizes), rows]), axis=1, return_inverse=True
    )
    rest = np.setdiff1d(np.arange(len(ids)), listed[1])
    base = np.concatenate([listed[1], rest]).astype(np.int64)
    category_of = np.concatenate([listed[0], np.zeros(rest.size)]).astype(np.int32)
    dense, history = _features(lists, past, row_of, offsets, rows)
    product_of = np.zeros(len(ids), np.int32)
    product_of[base] = np.arange(base.size)
    clusters = np.arange(len(lists.names), dtype=np.int32)
    return LabelledPages(
        format="run+qrel",
        protocol=f"{FOLDS} folds of lists; a page is a list of the run, its category the market",
        surface="home",
        product_texts=[""] * base.size,
        product_categories=category_of,
        product_brands=np.zeros(base.size, np.int32),
        categories=categories,
        brands=(),
        queries=[],
        offsets=offsets,
        rows=inverse.ravel().astype(np.int32),
        grades=np.array(grades, np.uint8),
        dense=dense,
        feature_names=FEATURES,
        clusters=clusters,
        page_queries=np.full(clusters.size, -1, np.int32),
        positives_total=np.array([len(grade) for grade in lists.grades], np.int32),
        history=np.where(history >= 0, product_of[history], -1).astype(np.int32),
        folds=query_folds(clusters, seed),
        rankings={
            "retrieval order": "",
            "popularity": "popularity_in_own_category",
            "item-kNN": "knn_all",
            "item-kNN, own category": "knn_own_category",
            "random walk": "walk_all",
        },
        facts={
            "lists": len(lists.names),
            "past events": int(past.shopper.size),
            **({"lists of one candidate, left out": left_out} if left_out else {}),
        },
    )


@dataclass(frozen=True, slots=True)
class _Past:
    """What shoppers did before, sorted by shopper."""

    shopper: Integers
    product: list[str]
    category: list[str]
    shoppers: dict[str, int]

    @property
    def products(self) -> set[str]:
        return set(self.product)

    @classmethod
    def read(cls, tables: list[Table]) -> _Past:
        frames = [
            pl.DataFrame(
                {
                    "shopper": table.read("shopper").cast(pl.String),
                    "product": table.read("product").cast(pl.String),
                    "category": [_group(table)[0]] * table.frame.height,
                }
            )
            for table in tables
            if table.has("shopper") and table.has("product")
        ]
        if not frames:
            return cls(np.zeros(0, np.int64), [], [], {})
        # a smaller cut of a market's past may lie beside the whole of it
        frame = pl.concat(frames).unique(["shopper", "product"], keep="first", maintain_order=True)
        frame = frame.drop_nulls().sort("shopper", maintain_order=True)
        names = frame["shopper"].unique(maintain_order=True).to_list()
        number = {name: row for row, name in enumerate(names)}
        shopper = np.array([number[name] for name in frame["shopper"].to_list()], np.int64)
        return cls(shopper, frame["product"].to_list(), frame["category"].to_list(), number)


def _read_lists(runs: list[Table], qrels: list[Table]) -> _Lists:
    by_group = {_group(table): table for table in qrels}
    lists = _Lists([], [], [], [])
    for run in runs:
        qrel = by_group.get(_group(run))
        if qrel is None:
            continue  # the run of a test whose relevant products are kept secret
        grades: dict[str, dict[str, int]] = {}
        positive = grades_of(qrel, "grade")
        who = qrel.read("query" if qrel.has("query") else "shopper").cast(pl.String).to_list()
        for name, product, grade in zip(who, qrel.text("product"), positive, strict=True):
            if grade > 0:
                grades.setdefault(name, {})[product] = int(grade)
        for name, candidates in _lists_of(run):
            if name in grades:
                lists.names.append(name)
                lists.categories.append(_group(run)[0])
                lists.candidates.append(candidates)
                lists.grades.append(grades[name])
    if not lists.names:
        raise DataError(
            f"run: got {', '.join(t.path.name for t in runs)} and qrel "
            f"{', '.join(t.path.name for t in qrels)} with no list in both, want their names and "
            "ids to agree"
        )
    return lists


def _lists_of(run: Table) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each list and its distinct candidates, best first."""
    names = run.read("query" if run.has("query") else "shopper").cast(pl.String)
    joined = run.column("candidates")
    if joined is not None:
        values = run.frame[joined]
        parts = values.str.split(",") if values.dtype == pl.String else values
        for name, candidates in zip(names.to_list(), parts.to_list(), strict=True):
            yield name, [item for item in dict.fromkeys(map(str, candidates)) if item]
        return
    by_rank = run.has("rank")
    order = run.read("rank" if by_rank else "score").cast(pl.Float64)
    frame = pl.DataFrame({"name": names, "product": run.text("product"), "order": order})
    frame = frame.sort("order", descending=not by_rank, maintain_order=True)
    for (name,), part in frame.group_by("name", maintain_order=True):
        yield str(name), list(dict.fromkeys(part["product"].to_list()))


def _group(table: Table) -> tuple[str, str]:
    """Return the category of a file by its name, and the rest that says what belongs together."""
    stem = table.path.name.split(".", 1)[0]
    stem = re.sub(r"_?(run|qrels?)$", "", stem)
    category, _, rest = stem.partition("_")
    return category or "(all)", rest


def _features(
    lists: _Lists,
    past: _Past,
    row_of: dict[str, int],
    offsets: Integers,
    rows: Integers,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Return `FEATURES` of every candidate, and the past products of every page."""
    size, count = len(row_of), len(lists.names)
    page = np.repeat(np.arange(count), np.diff(offsets))
    product = np.array([row_of[name] for name in past.product], np.int64)
    history = np.full((count, _HISTORY), -1, np.int32)
    owners, bought = [], []
    for index, name in enumerate(lists.names):
        number = past.shoppers.get(name)
        if number is not None:
            first, last = np.searchsorted(past.shopper, [number, number + 1])
            own = product[first:last]
            history[index, : min(own.size, _HISTORY)] = own[-_HISTORY:]
            owners.append(np.full(own.size, index))
            bought.append(own)
    owner = np.concatenate([np.zeros(0, np.int64), *owners]).astype(np.int64)
    rest = np.concatenate([np.zeros(0, np.int64), *bought]).astype(np.int64)
    weights = csr_matrix((np.ones(owner.size), (owner, rest)), shape=(count, size))
    everything = fit_neighbours(past.shopper, product, size)
    dense = np.zeros((rows.size, len(FEATURES)), np.float32)
    dense[:, 0] = np.asarray(weights[page, rows]).ravel()
    dense[:, 1] = np.arange(rows.size) - offsets[page]
    dense[:, 2] = np.log1p(everything.counts[rows])
    dense[:, 5] = look_up(everything.together, weights, page, rows)
    dense[:, 6] = np.log1p(np.bincount(owner, minlength=count))[page]
    of_event, of_page = np.array(past.category), np.array(lists.categories)
    dense[:, 8] = look_up(everything.walk, weights, page, rows)
    markets = np.zeros(size)
    for category in dict.fromkeys([*past.category, *lists.categories]):
        inside = of_event == category
        fit: Neighbours = fit_neighbours(past.shopper[inside], product[inside], size)
        markets += fit.counts > 0
        here = of_page[page] == category
        if here.any():
            dense[here, 3] = np.log1p(fit.counts[rows[here]])
            dense[here, 4] = look_up(fit.together, weights, page[here], rows[here])
            dense[here, 7] = -(fit.counts[rows[here]] > 0).astype(np.float32)
            dense[here, 9] = look_up(fit.walk, weights, page[here], rows[here])
            known = np.asarray(weights @ (fit.counts > 0).astype(np.float64))
            dense[here, 10] = np.log1p(known[page[here]])
    dense[:, 7] += markets[rows]
    return dense, history

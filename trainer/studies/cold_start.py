"""Cold start: what is reached where little is known of a product or of a shopper.

Each slice holds the pages, or the products bought on them, with so many observations before the
page, beside the obvious simple rule: what sells in the product's category and brand, or the order
of retrieval.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from trainer.atomic_text import write_text
from trainer.encoding.dataset import Prepared
from trainer.encoding.pageset import Doubles, Integers, PageSet, encoded_pages
from trainer.evaluation.bootstrap import Interval, Membership, resample_means
from trainer.evaluation.comparison import NETWORK, surface_logits
from trainer.evaluation.evaluation import plain_json
from trainer.evaluation.evaluation_tables import bracketed
from trainer.evaluation.metrics import ndcg_at_k
from trainer.pipeline import Run
from trainer.reports.sheet import Section, Sheet, Table
from trainer.tasks import log_tasks, served_scores
from trainer.training.provenance import command_line, describe_environment

EDGES = (0, 1, 3, 10, 30, 100, 1_000)
NAMES = ("0", "1-2", "3-9", "10-29", "30-99", "100-999", "1,000 or more")
PRIOR = "popularity of category and brand"
RETRIEVAL = "retrieval order"


@dataclass(frozen=True, slots=True)
class Slice:
    """One task by how much was known.

    Attributes:
        rule: Name of the simple rule.
        counts: What was judged in each of `NAMES`: bought products, or pages.
        figures: Of CrossRank and of the rule in each: mean reciprocal rank of the bought product
            among what was not bought, or NDCG@10 of the page.
        differences: CrossRank minus the rule, paired, clustered by shopper.
    """

    rule: str
    counts: tuple[int, ...]
    figures: dict[str, list[Interval]]
    differences: list[Interval]


@dataclass(frozen=True, slots=True)
class ColdStart:
    """The curves of a run, by task."""

    products: dict[str, Slice]
    shoppers: dict[str, Slice]


def bucket_of(observations: Integers) -> Integers:
    """Return which of `NAMES` each count belongs to."""
    return np.searchsorted(EDGES, observations, side="right").astype(np.int64) - 1


def count_before(
    keys: Integers, times: Integers, asked: Integers, asked_times: Integers
) -> Integers:
    """Count the observations of a key before a time.

    Args:
        keys: Key of each observation, such as its product, >= 0.
        times: Its Unix seconds.
        asked: The keys that are asked for.
        asked_times: Before when.

    Returns:
        Shape (asked,).
    """
    order = np.lexsort((times, keys))
    keys, times = keys[order], times[order]
    span = int(max(times.max(initial=0), asked_times.max(initial=0))) + 1
    joined = keys.astype(np.int64) * span + times
    first = np.searchsorted(joined, asked.astype(np.int64) * span)
    before = np.searchsorted(joined, asked.astype(np.int64) * span + asked_times)
    return (before - first).astype(np.int64)


def popularity_prior(
    counts: Integers, categories: Integers, brands: Integers
) -> tuple[Doubles, Doubles]:
    """Return what sales to expect of a product of which nothing is known, and how firmly.

    Gamma-Poisson (Robbins 1956): a product of a category sells n ~ Poisson(rate) with
    rate ~ Gamma(shape, b), whose mean is that of its category and brand, drawn towards that of the
    category by as many products; b by moments within the category, mean / (variance - mean). With
    n sales seen the expectation is (n + b * prior) / (1 + b).

    Args:
        counts: Sales of each product of the catalogue, shape (products,).
        categories: Category of each.
        brands: Brand of each, 0 for none.

    Returns:
        Prior mean and b of each product, shape (products,).
    """
    values = counts.astype(np.float64)
    size = int(categories.max(initial=0)) + 1
    products = np.maximum(np.bincount(categories, minlength=size), 1)
    mean = np.bincount(categories, values, size) / products
    square = np.bincount(categories, values**2, size) / products
    over = np.maximum(square - mean**2 - mean, 1e-9)
    firmness = np.maximum(mean, 1e-9) / over
    width = int(brands.max(initial=0)) + 1
    cell = categories.astype(np.int64) * width + brands
    cells, of_product = np.unique(cell, return_inverse=True)
    held = np.bincount(of_product, minlength=cells.size)
    total = np.bincount(of_product, values, cells.size)
    own = mean[cells // width]
    drawn = np.where(cells % width > 0, (total + held * own) / (2 * held), own)
    return drawn[of_product], firmness[categories]


def expected_sales(counts: Integers, prior: Doubles, firmness: Doubles) -> Doubles:
    """Return (n + b * prior) / (1 + b); see `popularity_prior`."""
    expected: Doubles = (counts + firmness * prior) / (1 + firmness)
    return expected


def reciprocal_ranks(scores: Doubles, gains: Doubles, offsets: Integers, rows: Integers) -> Doubles:
    """Return 1 / rank of each of `rows`, positives, among their page's candidates without a gain.

    Of equal scores the earlier candidate stands first.
    """
    page = np.searchsorted(offsets, rows, side="right") - 1
    found = np.empty(rows.size)
    for index, (row, at) in enumerate(zip(rows.tolist(), page.tolist(), strict=True)):
        others = np.arange(offsets[at], offsets[at + 1])
        others = others[gains[others] == 0]
        ahead = scores[others] > scores[row]
        ahead |= (scores[others] == scores[row]) & (others < row)
        found[index] = 1 / (1 + int(ahead.sum()))
    return found


def measure_cold_start(run: Run) -> ColdStart:
    """Judge the run's test pages by what was known before them.

    Raises:
        EvaluationError: When no surface of the run has a test page.
    """
    prepared, log = run.log.prepared, run.log
    test_from = int(prepared.page_times[log.selection.pages[log.splits == 2]].min())  # noqa: PLR2004
    seen = np.asarray(prepared.interaction_times) < test_from
    products = prepared.product_categories.shape[0]
    sold = np.bincount(prepared.interaction_rows[seen], minlength=products)
    prior, firmness = popularity_prior(
        sold,
        prepared.product_categories.astype(np.int64),
        prepared.product_brands.astype(np.int64),
    )
    taken = prepared.interaction_rows.astype(np.int64)
    by_product, by_shopper = {}, {}
    for task, surface in log_tasks(log, run.config.surfaces).items():
        pages = encoded_pages(log, "test", surface)
        rows, times = pages.rows.astype(np.int64), pages.time[pages.page_of_row]
        known = count_before(taken, prepared.interaction_times, rows, times)
        scores = served_scores(
            surface_logits(run, surface),
            pages.categories,
            run.calibration,
            run.objective_weights[surface],
            run.outputs,
        )
        gains = pages.objective(pages.objectives[0])
        bought = np.flatnonzero(gains > 0)
        rule = expected_sales(known, prior[rows], firmness[rows])
        judged = {
            NETWORK: reciprocal_ranks(scores, gains, pages.offsets, bought),
            PRIOR: reciprocal_ranks(rule, gains, pages.offsets, bought),
        }
        shoppers = pages.shopper.astype(np.int64)[pages.page_of_row[bought]]
        by_product[task] = _slice(judged, bucket_of(known[bought]), shoppers)
        by_shopper[task] = _of_shoppers(prepared, pages, scores, gains)
    return ColdStart(by_product, by_shopper)


def _of_shoppers(prepared: Prepared, pages: PageSet, scores: Doubles, gains: Doubles) -> Slice:
    """Return NDCG@10 of pages by how many events their shopper had before."""
    sizes = np.diff(prepared.shopper_offsets)
    owner = np.repeat(np.arange(sizes.size), sizes)
    shoppers = pages.shopper.astype(np.int64)
    known = count_before(owner, np.asarray(prepared.interaction_times), shoppers, pages.time)
    judged = {
        NETWORK: ndcg_at_k(gains, scores, pages.offsets, 10),
        RETRIEVAL: ndcg_at_k(gains, -pages.position.astype(np.float64), pages.offsets, 10),
    }
    return _slice(judged, bucket_of(known), shoppers)


def _slice(judged: Mapping[str, Doubles], buckets: Integers, shoppers: Integers) -> Slice:
    values = np.stack(list(judged.values()))
    entries = np.arange(buckets.size)
    membership = Membership(entries, buckets, np.ones(buckets.size), NAMES)
    resampled = resample_means(values, shoppers, membership)
    counted = np.logical_not(np.isnan(values).any(axis=0))
    groups: Sequence[int] = range(len(NAMES))
    return Slice(
        rule=list(judged)[1],
        counts=tuple(np.bincount(buckets[counted], minlength=len(NAMES)).tolist()),
        figures={
            name: [resampled.interval(index, group) for group in groups]
            for index, name in enumerate(judged)
        },
        differences=[resampled.difference(0, 1, group) for group in groups],
    )


def cold_start_sheet(name: str, found: ColdStart) -> Sheet:
    """Return the tables."""
    sections = [
        Section(heading, (text,), tuple(_table(task, one) for task, one in slices.items()))
        for heading, text, slices in (
            (
                "New products",
                "Mean reciprocal rank of each bought product among what was not bought on its"
                " page, by how often anybody took the product before the page.",
                found.products,
            ),
            (
                "New shoppers",
                "NDCG@10 of the page, by how many events the shopper had before it.",
                found.shoppers,
            ),
        )
    ]
    return Sheet(f"Cold start: {name}", (command_line(),), tuple(sections))


def _table(task: str, one: Slice) -> Table:
    rows, verdicts = [], []
    for group, name in enumerate(NAMES):
        if one.counts[group]:
            values = [bracketed(one.figures[ranking][group]) for ranking in one.figures]
            told = bracketed(one.differences[group], signed=True)
            rows.append((name, f"{one.counts[group]:,}", *values, told))
            verdicts.append(one.differences[group].verdict)
    head = (f"{task}, observations before", "judged", *one.figures, f"{NETWORK} minus {one.rule}")
    return Table(head, tuple(rows), tuple(verdicts))


def write_cold_start(path: Path, found: ColdStart) -> None:
    """Write the figures as JSON, whole or not at all."""
    told = {
        "command": command_line(),
        "environment": describe_environment(),
        "observations": NAMES,
        **asdict(found),
    }
    write_text(path, json.dumps(plain_json(told), indent=1) + "\n")

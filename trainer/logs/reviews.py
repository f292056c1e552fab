"""Reviews as two named vectors of each product: what they say, and how good they find it.

Only reviews from before a moment count. Learning takes the start of the training pages, so no page
sees a review that was not written yet; an export takes the last of the log's moments that is not
later than its day.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np

from rerank_server.contract.page import Floats
from trainer.errors import EmptyTableError, LogColumnError
from trainer.logs.clean import Reason, TableCleaning, drop_rows
from trainer.logs.log_checks import to_unix_seconds
from trainer.logs.log_config import LogConfig
from trainer.logs.log_files import check_columns, collect_table, scan_table
from trainer.logs.named_vectors import describe, vector_file

TEXTS, NUMBERS = "reviews", "review_numbers"
# 1, the logarithm of the count, the mean, the share of low ratings; see `review_numbers`.
NUMBERS_WIDTH = 4
_BLOCK = 8192

Ints = np.ndarray
Doubles = np.ndarray


@dataclass(frozen=True, slots=True)
class Reviews:
    """Reviews of known products, sorted by product row.

    Attributes:
        row: Product row, shape (reviews,).
        rating: float64, shape (reviews,).
        time: Unix seconds, shape (reviews,).
        texts: One per review; empty where there is none.
        cleaning: What was left out.
    """

    row: Ints
    rating: Doubles
    time: Ints
    texts: list[str]
    cleaning: TableCleaning


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """What the mean of few values is drawn to (empirical Bayes).

    Attributes:
        mean: Of all values.
        spread: Standard deviation of all values; 1 where they are all alike.
        strength: Values that the overall mean counts for; infinite where products do not differ.
    """

    mean: float
    spread: float
    strength: float

    def shrink(self, counts: Doubles, sums: Doubles) -> Doubles:
        """Return (sum + strength * mean) / (count + strength) of each product."""
        if np.isinf(self.strength):
            return np.full(counts.shape, self.mean)
        weight = np.maximum(counts + self.strength, 1e-12)
        shrunk: Doubles = (sums + self.strength * self.mean) / weight
        return shrunk


def fit_shrinkage(row: Ints, values: Doubles) -> Shrinkage:
    """Fit how far the mean of a product's values is drawn to the mean of all.

    The strength is s^2 / t^2 with the variance within products s^2 = MSW and that between them
    t^2 = max((MSB - MSW) / n0, 0), n0 = (N - sum n_i^2 / N) / (P - 1): the moments of one-way
    random effects (Searle, Casella and McCulloch 1992, section 3.6), and the shrunk mean the
    posterior mean of Morris (1983, equation 1.4).

    Args:
        row: Product of each value, shape (values,).
        values: Shape (values,), at least one.
    """
    _, inverse, sizes = np.unique(row, return_inverse=True, return_counts=True)
    mean, total, products = float(values.mean()), values.size, sizes.size
    spread = float(values.std()) or 1.0
    means = np.bincount(inverse, values) / sizes
    if products < 2 or total == products:  # noqa: PLR2004 - nothing to tell the variances apart by
        return Shrinkage(mean, spread, np.inf)
    within = float(((values - means[inverse]) ** 2).sum()) / (total - products)
    between = float((sizes * (means - mean) ** 2).sum()) / (products - 1)
    size = (total - float((sizes**2).sum()) / total) / (products - 1)
    variance = max((between - within) / size, 0.0)
    return Shrinkage(mean, spread, within / variance if variance > 0 else np.inf)


def read_reviews(config: LogConfig, folder: Path, ids: Sequence[str], *, now: int) -> Reviews:
    """Read the configured reviews of the catalogue's products.

    Raises:
        LogFileError: The file is missing or cannot be read.
        LogColumnError: It lacks a column, or ratings are no numbers.
        EmptyTableError: No review is left after cleaning.
        TimeValueError: Times are in another unit or in the future.
    """
    lazy = scan_table(folder / config.reviews_file, "reviews")
    named = {
        "product": config.reviews_product,
        "rating": config.reviews_rating,
        "time": config.reviews_time,
    }
    if config.reviews_text:
        named["text"] = config.reviews_text
    check_columns(lazy, "reviews", named.values())
    kind = lazy.collect_schema()[config.reviews_rating]
    if not kind.is_numeric():
        raise LogColumnError(
            f"reviews.{config.reviews_rating}: got values of type {kind}, want numbers"
        )
    casts = {"product": nw.String(), "rating": nw.Float64(), "text": nw.String()}
    expressions = [
        nw.col(column).cast(casts[name]).alias(name)
        if name in casts
        else nw.col(column).alias(name)
        for name, column in named.items()
    ]
    dtype = lazy.collect_schema()[config.reviews_time]
    frame = collect_table(lazy.select(*expressions), "reviews")
    lines = to_unix_seconds(
        frame.lazy(), "reviews", "time", config.time_format, dtype=dtype, now=now
    )
    known = nw.from_dict(
        {"product": list(ids), "row": np.arange(len(ids))},
        schema={"product": nw.String(), "row": nw.Int64()},
        backend=frame.implementation,
    )
    reasons: list[Reason] = [
        ("no product", nw.col("product").is_null()),
        ("product not in the catalogue", nw.col("row").is_null()),
        ("no finite rating", nw.col("rating").is_null() | ~nw.col("rating").is_finite()),
        ("no time", nw.col("time").is_null()),
    ]
    left, cleaning = drop_rows(
        "reviews", lines.join(known.lazy(), on="product", how="left"), reasons
    )
    if not cleaning.rows_out:
        raise EmptyTableError(f"reviews: got 0 of {cleaning.rows_in} rows after cleaning, want 1")
    kept = left.collect().sort("row", "time")
    texts = kept["text"].fill_null("").to_list() if config.reviews_text else [""] * len(kept)
    return Reviews(
        kept["row"].to_numpy().astype(np.int64),
        kept["rating"].to_numpy().astype(np.float64),
        kept["time"].to_numpy().astype(np.int64),
        texts,
        cleaning,
    )


def write_reviews(
    target: Path,
    reviews: Reviews,
    moments: Sequence[int],
    products: int,
    encode: Callable[[Sequence[str]], Floats],
    *,
    low: float,
) -> list[dict[str, Any]]:
    """Write the vectors of reviews from before each moment; return what the manifest says.

    Args:
        target: The prepared folder.
        reviews: All reviews.
        moments: Unix seconds, ascending; the first is where training begins.
        products: How many there are.
        encode: From texts to vectors.
        low: Ratings up to this one are low.
    """
    first = reviews.time < moments[0]
    counts = {
        "rows": reviews.cleaning.rows_in,
        "dropped": reviews.cleaning.dropped,
        "before": {str(moment): int((reviews.time < moment).sum()) for moment in moments},
    }
    fitted = reviews.rating[first], reviews.row[first]
    described = []
    if first.any():
        ratings = fit_shrinkage(fitted[1], fitted[0])
        lows = fit_shrinkage(fitted[1], (fitted[0] <= low).astype(np.float64))
    else:  # nothing was known when training begins, so nothing can be learned of it
        ratings = lows = Shrinkage(0.0, 1.0, np.inf)
    for index, moment in enumerate(moments):
        numbers = review_numbers(reviews, moment, products, ratings, lows, low=low)
        np.save(target / vector_file(NUMBERS, index), numbers)
    described.append(describe(NUMBERS, NUMBERS_WIDTH, counts=counts, known_at=moments))
    if any(reviews.texts):
        sums = _text_sums(reviews, moments, products, encode)
        for index, means in enumerate(sums):
            np.save(target / vector_file(TEXTS, index), means)
        described.append(describe(TEXTS, sums[0].shape[1], counts=counts, known_at=moments))
    return described


def review_numbers(
    reviews: Reviews,
    moment: int,
    products: int,
    ratings: Shrinkage,
    lows: Shrinkage,
    *,
    low: float,
) -> Floats:
    """Return what is counted of reviews from before `moment`, shape (products + 1, 4).

    A product's row is 1, log10(1 + count), its shrunk mean rating less the mean of all in standard
    deviations, and its shrunk share of low ratings less that of all. The 1 keeps the numbers apart
    when the vector is brought to unit length. Zeros where there is no review.
    """
    known = reviews.time < moment
    row, rating = reviews.row[known], reviews.rating[known]
    counts = np.bincount(row, minlength=products + 1).astype(np.float64)
    mean = ratings.shrink(counts, np.bincount(row, rating, products + 1))
    share = lows.shrink(counts, np.bincount(row, (rating <= low).astype(float), products + 1))
    numbers = np.stack(
        [
            np.ones(products + 1),
            np.log10(1.0 + counts),
            (mean - ratings.mean) / ratings.spread,
            share - lows.mean,
        ],
        axis=1,
    )
    numbers[counts == 0] = 0.0
    return numbers.astype(np.float32)


def _text_sums(
    reviews: Reviews,
    moments: Sequence[int],
    products: int,
    encode: Callable[[Sequence[str]], Floats],
) -> list[Floats]:
    """Return the mean text vector of reviews from before each moment, (products + 1, width)."""
    sums: list[np.ndarray] = []
    for start in range(0, len(reviews.texts), _BLOCK):
        part = slice(start, start + _BLOCK)
        vectors = encode(reviews.texts[part])
        if not sums:
            sums = [np.zeros((products + 1, vectors.shape[1]), np.float64) for _ in moments]
        for total, moment in zip(sums, moments, strict=True):
            known = reviews.time[part] < moment
            np.add.at(total, reviews.row[part][known], vectors[known])
    counts = [
        np.bincount(reviews.row[reviews.time < moment], minlength=products + 1)[:, None]
        for moment in moments
    ]
    return [
        (total / np.maximum(count, 1)).astype(np.float32)
        for total, count in zip(sums, counts, strict=True)
    ]

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from tests.trainer.log_files_for_tests import DAY, START
from trainer.errors import EmptyTableError, LogColumnError
from trainer.logs.log_config import parse_log_config
from trainer.logs.reviews import (
    Shrinkage,
    fit_shrinkage,
    read_reviews,
    review_numbers,
    write_reviews,
)

IDS = ["a", "b", "c"]
MOMENTS = (START + 2 * DAY, START + 4 * DAY, START + 6 * DAY)
ROWS = {
    "product": ["a", "a", "b", "b", "gone", "a", "b", "c"],
    "rating": [5.0, 4.0, 1.0, 2.0, 3.0, None, 5.0, 1.0],
    "time": [START + day * DAY for day in (0, 1, 0, 1, 1, 1, 5, 3)],
    "text": ["good", "good", "bad", "bad", "bad", "bad", "good", "bad"],
}


def config(**changes):
    moments = ("train_from", "validation_from", "test_from")
    return parse_log_config(
        {
            "adapter": "tables",
            "interactions_file": "orders.tsv",
            "reviews_file": "reviews.parquet",
            "reviews_text": "text",
            **{
                name: datetime.fromtimestamp(moment, UTC)
                for name, moment in zip(moments, MOMENTS, strict=True)
            },
        }
        | changes
    )


def read(folder, rows=ROWS, **changes):
    pl.DataFrame(rows).write_parquet(folder / "reviews.parquet")
    return read_reviews(config(**changes), folder, IDS, now=START + 10 * DAY)


def word_vectors(texts):
    """Return (1, 0) for a good text and (0, 1) for a bad one."""
    return np.array([[text == "good", text == "bad"] for text in texts], np.float32)


def test_reviews_of_no_product_or_without_a_rating_are_counted(tmp_path):
    reviews = read(tmp_path)
    assert reviews.row.tolist() == [0, 0, 1, 1, 1, 2]
    assert reviews.cleaning.rows_in == 8
    assert reviews.cleaning.dropped == {"product not in the catalogue": 1, "no finite rating": 1}


def test_no_vector_knows_a_review_of_later(tmp_path):
    described = write_reviews(tmp_path, read(tmp_path), MOMENTS, 3, word_vectors, low=2.0)
    assert [entry["name"] for entry in described] == ["review_numbers", "reviews"]
    assert all(entry["known_at"] == list(MOMENTS) for entry in described)
    assert described[0]["counts"]["before"] == {
        str(moment): count for moment, count in zip(MOMENTS, (4, 5, 6), strict=True)
    }
    texts = [np.load(tmp_path / f"vector_reviews-{index}.npy") for index in range(3)]
    # nothing of c before the second moment, and b's good review of day 5 at the third alone
    assert texts[0].tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]
    assert texts[1].tolist() == [[1, 0], [0, 1], [0, 1], [0, 0]]
    np.testing.assert_allclose(texts[2][1], [1 / 3, 2 / 3], atol=1e-6)
    numbers = [np.load(tmp_path / f"vector_review_numbers-{index}.npy") for index in range(3)]
    assert numbers[0][2].tolist() == [0, 0, 0, 0]
    assert numbers[1][2, 1] == pytest.approx(np.log10(2))
    # what later reviews say changes nothing of the first moment
    later = ROWS | {"rating": [5.0, 4.0, 1.0, 2.0, 3.0, None, 1.0, 5.0]}
    other = tmp_path / "other"
    other.mkdir()
    write_reviews(other, read(other, later), MOMENTS, 3, word_vectors, low=2.0)
    np.testing.assert_array_equal(np.load(other / "vector_review_numbers-0.npy"), numbers[0])


def test_the_shrinkage_of_a_hand_worked_case():
    # Two products of two values, means 4.5 and 1.5, of all 3. Squares within, four times 0.25,
    # over 4 - 2 are 0.5; those between, twice 2.25 + 2.25, over 1 are 9; n0 is (4 - 8 / 4) / 1.
    # So the variance between is (9 - 0.5) / 2, and the strength 0.5 over that.
    fit = fit_shrinkage(np.array([0, 0, 1, 1]), np.array([5.0, 4.0, 1.0, 2.0]))
    assert fit.mean == 3.0
    assert fit.spread == pytest.approx(np.sqrt(2.5))
    assert fit.strength == pytest.approx(0.5 / 4.25)
    # one rating of 5: (5 + 3k) / (1 + k)
    k = fit.strength
    assert fit.shrink(np.array([1.0]), np.array([5.0])) == pytest.approx((5 + 3 * k) / (1 + k))


def test_products_that_do_not_differ_are_all_given_the_mean():
    fit = fit_shrinkage(np.array([0, 0, 1, 1]), np.array([1.0, 5.0, 5.0, 1.0]))
    assert np.isinf(fit.strength)
    assert fit.shrink(np.array([2.0, 0.0]), np.array([10.0, 0.0])).tolist() == [3.0, 3.0]
    alone = fit_shrinkage(np.array([0, 1]), np.array([1.0, 5.0]))
    assert np.isinf(alone.strength)


def test_fewer_reviews_say_less(tmp_path):
    reviews = read(tmp_path, {**ROWS, "rating": [5.0] * 8})
    numbers = review_numbers(
        reviews, MOMENTS[2], 3, Shrinkage(3.0, 1.0, 2.0), Shrinkage(0.25, 1.0, 2.0), low=2.0
    )
    # a has 3 of rating 5, c one: (15 + 6) / 5 - 3 and (5 + 6) / 3 - 3
    np.testing.assert_allclose(numbers[[0, 2], 2], [1.2, 2 / 3], atol=1e-6)
    np.testing.assert_allclose(numbers[[0, 2], 3], [0.5 / 5 - 0.25, 0.5 / 3 - 0.25], atol=1e-6)
    assert numbers[3].tolist() == [0, 0, 0, 0]


def test_ratings_that_are_words_and_files_without_reviews_are_refused(tmp_path):
    with pytest.raises(LogColumnError, match=r"reviews\.rating: got values of type String"):
        read(tmp_path, ROWS | {"rating": ["good"] * 8})
    with pytest.raises(EmptyTableError, match="got 0 of 8 rows after cleaning"):
        read(tmp_path, ROWS | {"product": ["gone"] * 8})

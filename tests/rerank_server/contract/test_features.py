"""Features worked out by hand on a shop of three products, then properties of any page."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_server.contract.errors import SchemaError
from rerank_server.contract.features import SEQUENCE_FEATURES, FeatureEncoder
from rerank_server.contract.schema import FeatureSpec, normalise
from tests.rerank_server.contract.shop import (
    SCHEMA,
    SIGNALS,
    TABLE,
    UNKNOWN,
    history,
    page,
    pages,
)

NAN = math.nan
# product 0 sixty days ago; products 0 and 2 in one basket thirty days ago
PAST = history((0, 60, True, False), (0, 30, False, False), (2, 30, True, True))
CANDIDATES = [1, 0, 2, UNKNOWN]
HALF, ROOT = 0.5, 0.5**0.5  # recency weights of 60 and 30 days with a half-life of 60


def encode(a_page, schema=SCHEMA, table=TABLE):
    encoder = FeatureEncoder(schema, table.unknown_row + 1)
    return encoder.encode(a_page, table)


def columns(a_page) -> dict[str, np.ndarray]:
    dense = encode(a_page).dense
    return {name: dense[:, index] for index, name in enumerate(SCHEMA.feature_names)}


OWN = {
    "own_count": [0, 2, 1, 0],
    "own_decayed_60d": [0, HALF + ROOT, ROOT, 0],
    "own_decayed_14d": [0, 0.5 ** (60 / 14) + 0.5 ** (30 / 14), 0.5 ** (30 / 14), 0],
    "own_days_since": [NAN, 30, 30, NAN],
    "own_gap_days": [NAN, 30, NAN, NAN],
    "own_gap_ratio": [NAN, 1, NAN, NAN],
    "own_discounted_share": [NAN, 0, 1, NAN],
    "own_same_place": [0, 1, 1, 0],
    "own_basket_share": [0, 1, 0.5, 0],
    "own_page_share": [0, (HALF + ROOT) / (HALF + 2 * ROOT), ROOT / (HALF + 2 * ROOT), 0],
    "own_page_gap": [HALF + ROOT, 0, HALF, HALF + ROOT],
    "own_leaf_share": [0, 1, 1, 0],
}
TASTE = {
    "leaf_decayed_60d": [HALF + ROOT, HALF + ROOT, ROOT, 0],
    "leaf_days_since": [30, 30, 30, NAN],
    "category_decayed_60d": [HALF + ROOT, HALF + ROOT, ROOT, 0],
    "brand_decayed_60d": [0, HALF + 2 * ROOT, HALF + 2 * ROOT, 0],
    "brand_in_leaf_decayed_60d": [0, HALF + ROOT, ROOT, 0],
    "brand_leaf_share": [0, 1, 1, 0],
    "size_decayed_60d": [HALF + ROOT, HALF + ROOT, ROOT, 0],
    "shopper_events": [3] * 4,
    "shopper_baskets": [2] * 4,
    "shopper_days_since": [30] * 4,
    "shopper_discounted_share": [1 / 3] * 4,
}
# the last purchase was 30 days ago, so 28-day counts keep all and 91-day counts lose the own
PRODUCT = {
    "price": [4, 2, NAN, NAN],
    "price_page_ratio": [0.5 * math.log(2), -0.5 * math.log(2), NAN, NAN],
    "sales_28d": [4, 10, 0, NAN],
    "sales_91d": [13, 18, 0, NAN],
    "sales_trend": [
        math.log(5 / (13 * 28 / 91 + 1)),
        math.log(11 / (18 * 28 / 91 + 1)),
        0,
        NAN,
    ],
    "sales_page_share": [4 / 14, 10 / 14, 0, NAN],
    "retrieval_score": [4, 3, 2, 1],
    "retrieval_score_gap": [0, 1, 2, 3],
    "retrieval_log_rank": [0, math.log(2), math.log(3), math.log(4)],
    "page_log_size": [math.log(5)] * 4,
}
_KNN = 0.5 ** (30 / 90)
KNN = {
    "knn_own_category": [0.25 * _KNN, 0, 0, 0],
    "knn_other_categories": [0, 0.5 * _KNN, 0.5 * _KNN, 0],
    "knn_all": [0.25 * _KNN, 0.5 * _KNN, 0.5 * _KNN, 0],
}


@pytest.mark.parametrize(("name", "want"), (OWN | TASTE | PRODUCT | KNN).items())
def test_features_are_as_worked_out_by_hand(name, want):
    got = columns(page(CANDIDATES, PAST))[name]
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


def test_als_folds_the_shopper_in_from_the_past():
    extra = 8.0 * _KNN  # products 0 and 2, factors (1, 0) and (1, 1)
    left = np.array([[2 + 2 * extra + 10, 1 + extra], [1 + extra, 2 + extra + 10]])
    shopper = np.linalg.inv(left) @ np.array([2 * (1 + extra), 1 + extra])
    want = [shopper[1], shopper[0], shopper.sum(), 0]
    np.testing.assert_allclose(columns(page(CANDIDATES, PAST))["als"], want, rtol=1e-5)


def test_own_purchases_are_subtracted_from_signals_of_the_place_only():
    signals = np.full((2, len(SIGNALS)), np.nan)
    signals[:, 0] = 5
    got = columns(page([0, 2], PAST, signals=signals))
    # product 0 was bought twice, once here; product 2 once, here
    assert got["store_sales_91d"].tolist() == [4, 4]


def test_counts_never_fall_below_zero():
    past = history(*[(2, 5, True, False)] * 3)
    got = columns(page([2], past, signals=[[1, 0]]))
    assert got["sales_28d"].tolist() == [0]
    assert got["store_sales_91d"].tolist() == [0]


def test_purchases_of_the_snapshot_day_itself_are_not_subtracted():
    past = history((0, 0.25, True, False))  # this morning; the counts end before today
    assert columns(page([0], past))["sales_28d"].tolist() == [10]


def test_an_empty_history_gives_zeros_and_missing_never_infinity():
    got = columns(page([0, 1, UNKNOWN]))
    assert got["own_count"].tolist() == [0, 0, 0]
    assert got["knn_all"].tolist() == [0, 0, 0]
    assert got["als"].tolist() == [0, 0, 0]
    assert np.isnan(got["shopper_days_since"]).all()
    encoded = encode(page([0, 1, UNKNOWN]))
    assert encoded.sequence_rows.shape == (0,)
    assert encoded.sequence_features.shape == (0, len(SEQUENCE_FEATURES))


def test_unknown_products_match_no_unknown_event():
    past = history((UNKNOWN, 5, True, True))
    got = columns(page([UNKNOWN, UNKNOWN], past))
    assert got["own_count"].tolist() == [0, 0]
    assert got["leaf_decayed_60d"].tolist() == [0, 0]
    assert got["shopper_events"].tolist() == [1, 1]


def test_the_sequence_tells_age_place_discount_category_and_basket():
    encoded = encode(page([0], PAST))
    assert encoded.sequence_rows.tolist() == [0, 0, 2]
    age = [math.log1p(days) / math.log1p(365) for days in (60, 30, 30)]
    want = np.array([[*age], [1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 0, 1]]).T
    np.testing.assert_allclose(encoded.sequence_features, want, rtol=1e-6)


def test_a_long_past_keeps_the_events_of_the_pages_categories_first():
    past = history(
        (2, 90, False, False),
        (0, 60, False, False),
        (0, 50, False, False),
        (0, 40, False, False),
        (0, 30, False, False),
        (0, 5, False, False),
    )
    encoded = encode(page([2], past))  # a page of pet food, four places
    assert encoded.sequence_rows.tolist() == [2, 0, 0, 0]
    want = [math.log1p(days) / math.log1p(365) for days in (90, 40, 30, 5)]
    np.testing.assert_allclose(encoded.sequence_features[:, 0], want, rtol=1e-6)


def test_events_beyond_the_history_limit_are_left_out():
    past = history(*[(0, 100 - day, False, False) for day in range(10)])
    assert columns(page([0], past))["own_count"].tolist() == [SCHEMA.history_limit]


def test_a_shop_without_prices_or_counts_gets_missing_features():
    schema = replace(SCHEMA, product_columns=())
    schema = replace(
        schema,
        features=tuple(
            spec for spec in SCHEMA.features if spec.name not in {"price", "sales_28d", "sales_91d"}
        ),
    )
    table = replace(TABLE, stats=np.empty((4, 0), np.float32))
    dense = encode(page([0, 1], PAST), schema, table).dense
    names = schema.feature_names
    for name in ("sales_trend", "sales_page_share", "price_page_ratio"):
        assert np.isnan(dense[:, names.index(name)]).all()


def test_a_feature_this_version_cannot_compute_is_refused_with_the_nearest():
    schema = replace(SCHEMA, features=(FeatureSpec("own_counts", "bought before"),))
    with pytest.raises(SchemaError, match=r"got 'own_counts', want .*nearest: own_count\)"):
        FeatureEncoder(schema, 4)


def test_the_encoder_leaves_no_trace_of_a_page():
    encoder = FeatureEncoder(SCHEMA, 4)
    first = encoder.encode(page(CANDIDATES, PAST), TABLE).dense
    encoder.encode(page([2, 0], PAST), TABLE)
    np.testing.assert_array_equal(encoder.encode(page(CANDIDATES, PAST), TABLE).dense, first)


@given(pages(), st.randoms(use_true_random=False))
def test_permuting_candidates_permutes_rows(a_page, random):
    order = list(range(a_page.size))
    random.shuffle(order)
    moved = replace(
        a_page,
        rows=a_page.rows[order],
        retrieval_scores=a_page.retrieval_scores[order],
        signals=a_page.signals[order],
    )
    keep = [name != "retrieval_log_rank" for name in SCHEMA.feature_names]
    got = encode(moved).dense[:, keep]
    np.testing.assert_allclose(got, encode(a_page).dense[order][:, keep], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(encode(moved).sequence_rows, encode(a_page).sequence_rows)


@given(pages())
def test_features_are_finite_or_missing_and_normalise_to_a_bounded_number(a_page):
    encoded = encode(a_page)
    assert not np.isinf(encoded.dense).any()
    assert np.isfinite(encoded.sequence_features).all()
    seen = normalise(SCHEMA, encoded.dense)
    assert seen.dtype == np.float32
    assert (np.abs(seen) <= 5).all()


@given(pages())
def test_counts_without_own_purchases_are_never_above_the_counts(a_page):
    got = columns(a_page)
    raw = TABLE.stats[a_page.rows]
    for index, name in ((1, "sales_28d"), (2, "sales_91d")):
        both = np.isfinite(got[name])
        assert (got[name][both] <= raw[both, index]).all()
        assert (got[name][both] >= 0).all()


@given(pages())
def test_shares_lie_between_0_and_1(a_page):
    shares = columns(a_page)
    for name in ("own_discounted_share", "own_leaf_share", "brand_leaf_share"):
        values = shares[name][np.isfinite(shares[name])]
        assert (values >= 0).all()
        assert (values <= 1 + 1e-6).all()

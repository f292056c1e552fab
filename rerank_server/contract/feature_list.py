"""Every feature the encoder computes by itself, and the group an explanation names it under."""

from __future__ import annotations

from rerank_server.contract.schema import FeatureSpec, ProductColumn, SignalSpec

FEATURE_GROUPS: dict[str, str] = {
    "retrieval_score": "retrieval",
    "retrieval_score_gap": "retrieval",
    "retrieval_log_rank": "retrieval",
    "page_log_size": "retrieval",
    "sales_trend": "popularity",
    "sales_page_share": "popularity",
    "price_page_ratio": "price",
    "own_count": "bought before",
    "own_decayed_60d": "bought before",
    "own_decayed_14d": "bought before",
    "own_days_since": "bought before",
    "own_gap_days": "bought before",
    "own_gap_ratio": "bought before",
    "own_discounted_share": "bought before",
    "own_same_place": "bought before",
    "own_basket_share": "bought before",
    "own_page_share": "bought before",
    "own_page_gap": "bought before",
    "own_leaf_share": "bought before",
    "leaf_decayed_60d": "taste",
    "leaf_days_since": "taste",
    "middle_decayed_60d": "taste",
    "middle_days_since": "taste",
    "category_decayed_60d": "taste",
    "brand_decayed_60d": "taste",
    "brand_in_leaf_decayed_60d": "taste",
    "brand_leaf_share": "taste",
    "size_decayed_60d": "taste",
    "size_in_leaf_decayed_60d": "taste",
    "shopper_events": "shopper",
    "shopper_baskets": "shopper",
    "shopper_days_since": "shopper",
    "shopper_discounted_share": "shopper",
    "knn_own_category": "similar shoppers",
    "knn_other_categories": "similar shoppers",
    "knn_all": "similar shoppers",
    "als": "similar shoppers",
}

_LOG_SCALED = frozenset(
    name
    for name in FEATURE_GROUPS
    if name.startswith(("own_", "leaf_", "middle_", "category_", "brand_", "size_", "shopper_"))
    and not name.endswith("share")
) | {"knn_own_category", "knn_other_categories", "knn_all"}

_COLUMN_GROUPS = {"price": "price", "price_leaf_ratio": "price", "discount_share_28d": "promotion"}


def feature_specs(
    product_columns: tuple[ProductColumn, ...], signals: tuple[SignalSpec, ...]
) -> tuple[FeatureSpec, ...]:
    """Return the full ordered feature list, not yet standardised."""
    specs = [
        FeatureSpec(name, group, "log1p" if name in _LOG_SCALED else "identity")
        for name, group in FEATURE_GROUPS.items()
    ]
    for column in product_columns:
        group = _COLUMN_GROUPS.get(column.name, "popularity")
        specs.append(FeatureSpec(column.name, group, "log1p" if column.window_days else "identity"))
    for signal in signals:
        group = "popularity" if signal.window_days else "promotion"
        specs.append(FeatureSpec(signal.name, group, "log1p" if signal.window_days else "identity"))
    return tuple(specs)

"""What the dashboards share: data views, conditions, measures and saved searches."""

from __future__ import annotations

from es_plugin_config.kibana.charts import (
    DataView,
    Measure,
    SavedSearch,
    Share,
)

SEARCHES = DataView("crossrank-searches", "crossrank-searches", "CrossRank searches", "query_id")
EVENTS = DataView("crossrank-ubi-events", "ubi_events", "UBI events", "action_name")
LEARNING = DataView("crossrank-learning", "crossrank-learning", "CrossRank learning", "run_id")
EXPERIMENTS = DataView(
    "crossrank-experiments", "crossrank-experiments", "CrossRank experiments", "experiment"
)
DATA_VIEWS = (SEARCHES, EVENTS, LEARNING, EXPERIMENTS)

# What `metric` says in the streams of learning and of experiments.
OFFLINE_METRIC = "ndcg_at_10"
CLICK_RATE = "ctr"
IMPRESSION = 'action_name: "impression"'
CLICK = 'action_name: "click"'
CART = 'action_name: "cart"'
PURCHASE = 'action_name: "purchase"'
POSITION = "event_attributes.position.ordinal"
RETRIEVAL_POSITION = "event_attributes.position.retrieval_ordinal"
CATEGORY = "event_attributes.object.category"
BRAND = "event_attributes.object.brand"
IS_NEW = "event_attributes.object.is_new"
EVENT_VARIANT = "event_attributes.variant"
RERANKED = "degraded: false"

SEARCH_COUNT = Measure("Searches", "count")
DEGRADED = Share("Degraded", "degraded: true")
NO_CANDIDATES = Share("No results", "total_hits: 0", of="total_hits >= 0")
CTR = Share("Click-through rate", CLICK, of=IMPRESSION)
CVR = Share("Purchases per click", PURCHASE, of=CLICK)
ABANDONED = Share("Without a click", CLICK, of=IMPRESSION, distinct="query_id", rest=True)


def percentiles(field: str, *which: float) -> tuple[Measure, ...]:
    """Return one measure for each percentile of a time in milliseconds."""
    return tuple(
        Measure(f"p{which_one:g}", "percentile", field, percentile=which_one, decimals=1)
        for which_one in which
    )


def mean(label: str, field: str, *, where: str = "", decimals: int = 1) -> Measure:
    """Return the average of a field."""
    return Measure(label, "average", field, where, decimals=decimals)


RECENT_SEARCHES = SavedSearch(
    "crossrank-searches-newest",
    "Searches, newest first",
    SEARCHES,
    ("user_query", "query_id", "degraded_reason", "latency.total_ms", "moved.mean", "total_hits"),
)
DEGRADED_SEARCHES = SavedSearch(
    "crossrank-searches-degraded",
    "Degraded searches",
    SEARCHES,
    ("degraded_reason", "degraded_detail", "user_query", "query_id", "latency.total_ms", "status"),
    where="degraded: true",
)
BOTH_ORDERS = SavedSearch(
    "crossrank-search-orders",
    "Both orders: products as found and as shown",
    SEARCHES,
    (
        "user_query",
        "query_id",
        "products.before",
        "products.after",
        "categories.before",
        "categories.after",
        "bundle_id",
    ),
)
SEARCH_EVENTS = SavedSearch(
    "crossrank-search-events",
    "What shoppers did with it",
    EVENTS,
    (
        "action_name",
        POSITION,
        RETRIEVAL_POSITION,
        "event_attributes.object.object_id",
        CATEGORY,
        "query_id",
    ),
    oldest_first=True,
)
SAVED_SEARCHES = (RECENT_SEARCHES, DEGRADED_SEARCHES, BOTH_ORDERS, SEARCH_EVENTS)

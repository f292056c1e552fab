"""The dashboards of searches: health, what reranking does, one search."""

from __future__ import annotations

from es_plugin_config.kibana.charts import (
    Control,
    Dashboard,
    Graph,
    Measure,
    Number,
    OverTime,
    Row,
    Share,
    Table,
    Top,
)
from es_plugin_config.kibana.measures import (
    BOTH_ORDERS,
    BRAND,
    CATEGORY,
    CLICK,
    DEGRADED,
    DEGRADED_SEARCHES,
    EVENTS,
    IMPRESSION,
    IS_NEW,
    POSITION,
    PURCHASE,
    RECENT_SEARCHES,
    RERANKED,
    RETRIEVAL_POSITION,
    SEARCH_COUNT,
    SEARCH_EVENTS,
    SEARCHES,
    mean,
    percentiles,
)

HEALTH = Dashboard(
    "crossrank-search-health",
    "CrossRank: Search health",
    "Traffic, latency by stage, what was degraded and why, errors.",
    rows=(
        Row(
            6,
            (
                Number("Searches", SEARCHES, SEARCH_COUNT),
                Number("Degraded", SEARCHES, DEGRADED),
                Number("Errors", SEARCHES, Share("Errors", "status >= 500")),
                Number("p99, ms", SEARCHES, percentiles("latency.total_ms", 99)[0]),
            ),
        ),
        Row(
            10,
            (
                Graph(
                    "Searches by variant",
                    SEARCHES,
                    "bar_stacked",
                    OverTime(),
                    (SEARCH_COUNT,),
                    split=Top("variant", "Variant", 5),
                ),
                Graph(
                    "Latency of the whole search, ms",
                    SEARCHES,
                    "line",
                    OverTime(),
                    percentiles("latency.total_ms", 50, 95, 99),
                ),
            ),
        ),
        Row(
            10,
            (
                Graph(
                    "Mean latency by stage, ms",
                    SEARCHES,
                    "area_stacked",
                    OverTime(),
                    (
                        mean("Elasticsearch", "latency.retrieval_ms"),
                        mean("Reranker", "latency.rerank_ms"),
                        mean("Gateway", "latency.gateway_ms"),
                    ),
                ),
                Graph(
                    "Degraded by reason",
                    SEARCHES,
                    "bar_stacked",
                    OverTime(),
                    (SEARCH_COUNT,),
                    split=Top("degraded_reason", "Reason", 10),
                    where="degraded: true",
                ),
            ),
        ),
        Row(
            10,
            (
                Table(
                    "Stages, ms",
                    SEARCHES,
                    (Top("index", "Index", 10),),
                    (
                        SEARCH_COUNT,
                        *(
                            Measure(f"{name} p95", "percentile", field, percentile=95, decimals=1)
                            for name, field in (
                                ("Total", "latency.total_ms"),
                                ("Elasticsearch", "latency.retrieval_ms"),
                                ("Events", "latency.events_ms"),
                                ("Reranker", "latency.rerank_ms"),
                                ("Queue", "latency.queue_ms"),
                                ("Features", "latency.encode_ms"),
                                ("Model", "latency.score_ms"),
                                ("Policy", "latency.policy_ms"),
                            )
                        ),
                    ),
                ),
                Table(
                    "Answers by status",
                    SEARCHES,
                    (Top("status", "Status of Elasticsearch", 10),),
                    (SEARCH_COUNT, DEGRADED),
                ),
            ),
            widths=(32, 16),
        ),
        Row(12, (DEGRADED_SEARCHES,)),
    ),
)

EFFECT = Dashboard(
    "crossrank-what-reranking-does",
    "CrossRank: What reranking does",
    "How far products move, and who is on the first page before and after.",
    rows=(
        Row(
            6,
            (
                Number("Mean places moved", SEARCHES, mean("Places", "moved.mean"), RERANKED),
                Number(
                    "New among the first ten", SEARCHES, mean("Products", "moved.top10"), RERANKED
                ),
                Number("Candidates a search", SEARCHES, mean("Candidates", "candidates")),
                Number(
                    "Past events a search",
                    SEARCHES,
                    mean("Events", "history.events"),
                ),
            ),
        ),
        Row(
            10,
            (
                Graph(
                    "Places moved",
                    SEARCHES,
                    "line",
                    OverTime(),
                    (
                        mean("Mean", "moved.mean"),
                        mean("Farthest", "moved.max"),
                        mean("New among the first ten", "moved.top10"),
                    ),
                    where=RERANKED,
                ),
                Graph(
                    "Searches by how many products are new among the first ten",
                    SEARCHES,
                    "bar",
                    Top("moved.top10", "Products", 11, by_value=True),
                    (SEARCH_COUNT,),
                    where=RERANKED,
                ),
            ),
        ),
        Row(
            12,
            (
                Graph(
                    "Categories among the first ten, as found",
                    SEARCHES,
                    "bar_horizontal",
                    Top("categories.before", "Category", 15),
                    (SEARCH_COUNT,),
                    where=RERANKED,
                ),
                Graph(
                    "Categories among the first ten, as shown",
                    SEARCHES,
                    "bar_horizontal",
                    Top("categories.after", "Category", 15),
                    (SEARCH_COUNT,),
                    where=RERANKED,
                ),
            ),
        ),
        Row(
            12,
            (
                Graph(
                    "Impressions by category",
                    EVENTS,
                    "bar_stacked",
                    OverTime(),
                    (Measure("Impressions", "count"),),
                    split=Top(CATEGORY, "Category", 10),
                    where=IMPRESSION,
                ),
                Table(
                    "Exposure by brand",
                    EVENTS,
                    (Top(BRAND, "Brand", 15),),
                    (
                        Measure("Impressions", "count"),
                        Share("Among the first ten as shown", f"{POSITION} <= 10"),
                        Share("Among the first ten as found", f"{RETRIEVAL_POSITION} <= 10"),
                    ),
                    where=IMPRESSION,
                ),
                Graph(
                    "Impressions of new products",
                    EVENTS,
                    "line",
                    OverTime(),
                    (
                        Share("New, of all shown", f"{IS_NEW}: true"),
                        Share(
                            "New, of the first ten as found",
                            f"{IS_NEW}: true and {RETRIEVAL_POSITION} <= 10",
                            of=f"{RETRIEVAL_POSITION} <= 10",
                        ),
                    ),
                    where=IMPRESSION,
                ),
            ),
        ),
    ),
)

ONE_SEARCH = Dashboard(
    "crossrank-one-search",
    "CrossRank: One search",
    "Choose a query id: both orders, what it cost, and what the shopper did.",
    rows=(
        Row(
            6,
            (
                Number("Searches chosen", SEARCHES, SEARCH_COUNT),
                Number("Total, ms", SEARCHES, mean("ms", "latency.total_ms")),
                Number("Reranker, ms", SEARCHES, mean("ms", "latency.rerank_ms")),
                Number("Mean places moved", SEARCHES, mean("Places", "moved.mean")),
            ),
        ),
        Row(12, (BOTH_ORDERS,)),
        Row(
            12,
            (
                Table(
                    "Products and where they were found and shown",
                    EVENTS,
                    (
                        Top(
                            "event_attributes.object.object_id",
                            "Product",
                            50,
                            smallest_first=True,
                        ),
                    ),
                    (
                        Measure("As shown", "min", POSITION),
                        Measure("As found", "min", RETRIEVAL_POSITION),
                        Measure("Clicks", "count", where=CLICK),
                        Measure("Purchases", "count", where=PURCHASE),
                    ),
                    where=f"{POSITION}: *",
                ),
                SEARCH_EVENTS,
            ),
        ),
        Row(12, (RECENT_SEARCHES,)),
    ),
    controls=(
        Control("query_id", "Query id", SEARCHES),
        Control("user_query", "Query", SEARCHES),
    ),
)

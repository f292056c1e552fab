"""The dashboards of what comes of it: quality, experiments, learning."""

from __future__ import annotations

from es_plugin_config.kibana.charts import (
    Dashboard,
    Graph,
    Measure,
    Number,
    OverTime,
    Row,
    Table,
    Top,
)
from es_plugin_config.kibana.measures import (
    ABANDONED,
    CART,
    CATEGORY,
    CLICK,
    CLICK_RATE,
    CTR,
    CVR,
    DEGRADED,
    EVENT_VARIANT,
    EVENTS,
    EXPERIMENTS,
    IMPRESSION,
    LEARNING,
    NO_CANDIDATES,
    OFFLINE_METRIC,
    POSITION,
    PURCHASE,
    RETRIEVAL_POSITION,
    SEARCH_COUNT,
    SEARCHES,
    mean,
    percentiles,
)

QUALITY = Dashboard(
    "crossrank-quality",
    "CrossRank: Quality",
    "What shoppers do with results: clicks, purchases, positions, empty and abandoned searches.",
    rows=(
        Row(
            6,
            (
                Number("Click-through rate", EVENTS, CTR),
                Number("Purchases per click", EVENTS, CVR),
                Number("Searches without a click", EVENTS, ABANDONED),
                Number("Searches without results", SEARCHES, NO_CANDIDATES),
                Number("Mean position of clicks", EVENTS, mean("Position", POSITION), where=CLICK),
            ),
            widths=(10, 10, 10, 9, 9),
        ),
        Row(
            10,
            (
                Graph("Click-through rate over time", EVENTS, "line", OverTime(), (CTR,)),
                Graph(
                    "Click-through rate by position",
                    EVENTS,
                    "bar",
                    Top(POSITION, "Position", 20, by_value=True),
                    (CTR,),
                ),
            ),
        ),
        Row(
            10,
            (
                Graph(
                    "Where what is clicked was found",
                    EVENTS,
                    "bar",
                    Top(RETRIEVAL_POSITION, "Position as found", 20, by_value=True),
                    (Measure("Clicks", "count"),),
                    where=CLICK,
                ),
                Graph(
                    "Where what is clicked was shown",
                    EVENTS,
                    "bar",
                    Top(POSITION, "Position as shown", 20, by_value=True),
                    (Measure("Clicks", "count"),),
                    where=CLICK,
                ),
            ),
        ),
        Row(
            14,
            (
                Table(
                    "By category",
                    EVENTS,
                    (Top(CATEGORY, "Category", 25),),
                    (
                        Measure("Impressions", "count", where=IMPRESSION),
                        Measure("Clicks", "count", where=CLICK),
                        CTR,
                        Measure("Carts", "count", where=CART),
                        Measure("Purchases", "count", where=PURCHASE),
                        CVR,
                        mean("Click position", POSITION, where=CLICK),
                    ),
                ),
                Table(
                    "Queries without results",
                    SEARCHES,
                    (Top("user_query", "Query", 20),),
                    (SEARCH_COUNT,),
                    where="total_hits: 0",
                ),
            ),
            widths=(32, 16),
        ),
    ),
)

EXPERIMENT = Dashboard(
    "crossrank-experiments",
    "CrossRank: Experiments",
    "Arms with their intervals, whether the split is sound, the canary against the current bundle.",
    rows=(
        Row(
            12,
            (
                Table(
                    "Arms",
                    EXPERIMENTS,
                    (
                        Top("experiment", "Experiment", 10),
                        Top("metric", "Metric", 10),
                        Top("arm", "Arm", 5, by_value=True),
                    ),
                    (
                        mean("Value", "value", decimals=4),
                        mean("Low", "low", decimals=4),
                        mean("High", "high", decimals=4),
                        mean("Lift", "lift.value", decimals=4),
                        mean("Lift low", "lift.low", decimals=4),
                        mean("Lift high", "lift.high", decimals=4),
                    ),
                ),
            ),
        ),
        Row(
            10,
            (
                Graph(
                    "Click-through rate by arm, as the experiment counts it",
                    EXPERIMENTS,
                    "line",
                    OverTime(),
                    (mean("Value", "value", decimals=4),),
                    split=Top("arm", "Arm", 5),
                    where=f'metric: "{CLICK_RATE}"',
                ),
                Graph(
                    "Sample ratio: p-value (below 0.001 the split is broken)",
                    EXPERIMENTS,
                    "line",
                    OverTime(),
                    (Measure("p-value", "min", "sample_ratio.p_value", decimals=4),),
                    split=Top("experiment", "Experiment", 5),
                ),
                Table(
                    "Decisions",
                    EXPERIMENTS,
                    (Top("experiment", "Experiment", 10), Top("decision", "Decision", 5)),
                    (Measure("Figures", "count"),),
                ),
            ),
        ),
        Row(
            10,
            (
                Graph(
                    "Click-through rate, canary against current",
                    EVENTS,
                    "line",
                    OverTime(),
                    (CTR,),
                    split=Top(EVENT_VARIANT, "Variant", 3),
                ),
                Table(
                    "Canary against current",
                    SEARCHES,
                    (Top("variant", "Variant", 3), Top("bundle_id", "Bundle", 3)),
                    (
                        SEARCH_COUNT,
                        DEGRADED,
                        mean("Places moved", "moved.mean"),
                        *percentiles("latency.rerank_ms", 50, 99),
                    ),
                ),
                Table(
                    "Clicks by variant",
                    EVENTS,
                    (Top(EVENT_VARIANT, "Variant", 3),),
                    (CTR, CVR, ABANDONED),
                ),
            ),
        ),
    ),
)

LEARN = Dashboard(
    "crossrank-learning",
    "CrossRank: Learning",
    "Bundles, offline figures per category, drift, training runs.",
    rows=(
        Row(
            10,
            (
                Graph(
                    "NDCG@10, mean of the categories",
                    LEARNING,
                    "line",
                    OverTime(),
                    (mean("NDCG@10", "value", decimals=4),),
                    split=Top("ranking", "Ranking", 8),
                    where=f'metric: "{OFFLINE_METRIC}" and category: *',
                ),
                Table(
                    "Training runs",
                    LEARNING,
                    (
                        Top("run_id", "Run", 10),
                        Top("bundle_id", "Bundle", 3),
                        Top("decision", "Decision", 3),
                    ),
                    (
                        Measure("Round", "max", "round"),
                        Measure("Seconds", "max", "duration_s"),
                        Measure("Pages", "max", "pages"),
                    ),
                ),
            ),
        ),
        Row(
            14,
            (
                Table(
                    "Offline figures by category",
                    LEARNING,
                    (
                        Top("metric", "Metric", 5),
                        Top("category", "Category", 25),
                        Top("ranking", "Ranking", 5, by_value=True),
                    ),
                    (
                        mean("Value", "value", decimals=4),
                        mean("Low", "low", decimals=4),
                        mean("High", "high", decimals=4),
                        Measure("Pages", "max", "pages"),
                    ),
                    where="category: *",
                ),
                Graph(
                    "Largest drift (above 0.25 look into it)",
                    LEARNING,
                    "line",
                    OverTime(),
                    (Measure("PSI", "max", "drift.psi", decimals=3),),
                    split=Top("drift.subject", "Of", 5),
                    where="drift.psi: *",
                ),
            ),
        ),
        Row(
            10,
            (
                Table(
                    "Drift",
                    LEARNING,
                    (Top("drift.subject", "Of", 5), Top("drift.name", "Name", 20)),
                    (
                        Measure("PSI", "max", "drift.psi", decimals=3),
                        Measure("p-value", "min", "drift.p_value", decimals=4),
                    ),
                    where="drift.psi: *",
                ),
                Table(
                    "What was not published, and why",
                    LEARNING,
                    (Top("decision", "Decision", 5), Top("reason", "Reason", 10)),
                    (Measure("Figures", "count"),),
                    where="reason: *",
                ),
            ),
        ),
    ),
    time_from="now-30d",
)

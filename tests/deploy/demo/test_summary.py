"""The replay summed up: means worked out by hand, nothing counted that cannot be."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from deploy.demo.replay import ReplayedSearch
from deploy.demo.summary import format_replay, replay_figures

NAN = math.nan


def replayed(page: int, before: float, after: float, **given) -> ReplayedSearch:
    values: dict[str, Any] = {
        "page": page,
        "shopper": str(page),
        "category": "snacks",
        "before": before,
        "after": after,
        "retrieval_us": 1_000,
        "rerank_us": 4_000,
        "degraded_reason": "",
        "shared": 0.5,
        "logged": after,
    }
    return ReplayedSearch(**(values | given))


SEARCHES = [
    replayed(1, 0.2, 0.6, rerank_us=2_000),
    replayed(2, 0.4, 0.5, rerank_us=6_000),
    replayed(3, NAN, NAN),
    replayed(4, 1.0, 0.9, category="pet", shared=1.0),
    replayed(5, 0.0, 0.0, category="pet", degraded_reason="unavailable"),
]
OFFLINE = {1: 0.6, 2: 0.7, 3: NAN, 4: 0.9}


def test_means_are_over_searches_with_something_bought_among_the_candidates():
    figures = replay_figures(SEARCHES, OFFLINE)
    assert figures.searches == 5
    snacks, pet = figures.categories
    assert (snacks.title, snacks.searches) == ("Snacks", 2)
    assert (snacks.before, snacks.after) == pytest.approx((0.3, 0.55))
    assert (pet.before, pet.after) == pytest.approx((0.5, 0.45))
    assert (figures.all.before, figures.all.after) == pytest.approx((0.4, 0.5))
    assert figures.difference.mean == pytest.approx(0.1)
    assert figures.difference.low <= 0.1 <= figures.difference.high


def test_latency_is_over_all_searches():
    figures = replay_figures(SEARCHES, OFFLINE)
    assert figures.categories[0].p50_ms == pytest.approx(4.0)  # of 2, 6 and 4
    assert figures.all.p50_ms == pytest.approx(4.0)
    assert figures.all.p95_ms == pytest.approx(5.6)  # 4/5 of the way from 4 to 6
    assert figures.retrieval_p50_ms == pytest.approx(1.0)


def test_degraded_answers_are_counted_by_reason():
    figures = replay_figures(SEARCHES, OFFLINE)
    assert figures.degraded == {"unavailable": 1}
    assert "1 of 5 searches were answered in retrieval order (unavailable 1)." in (
        format_replay(figures)
    )


def test_agreement_compares_only_pages_with_figures_of_both_kinds():
    agreement = replay_figures(SEARCHES, OFFLINE).agreement
    assert agreement.shared == pytest.approx(0.6)
    assert agreement.compared == 3
    assert agreement.served == pytest.approx((0.6 + 0.5 + 0.9) / 3)
    assert agreement.offline == pytest.approx((0.6 + 0.7 + 0.9) / 3)
    assert agreement.equal == pytest.approx(2 / 3)
    assert agreement.same_candidates == 1
    assert (agreement.same_served, agreement.same_offline) == pytest.approx((0.9, 0.9))


def test_figures_are_json_with_null_for_what_is_not_known():
    figures = replay_figures([replayed(1, NAN, NAN)], {})
    value = json.loads(json.dumps(figures.to_json(), allow_nan=False))
    assert value["all"]["before"] is None
    assert value["agreement"]["compared"] == 0


def test_the_table_shows_losses_like_gains():
    lines = format_replay(replay_figures(SEARCHES, OFFLINE)).splitlines()
    assert lines[0].split() == [
        "category",
        "searches",
        "before",
        "after",
        "change",
        "p50",
        "ms",
        "p95",
        "ms",
    ]
    assert lines[2].split()[:5] == ["Snacks", "2", ".300", ".550", "+.250"]
    assert lines[3].split()[:5] == ["Pet", "2", ".500", ".450", "-.050"]
    assert lines[5].split()[:5] == ["All", "4", ".400", ".500", "+.100"]

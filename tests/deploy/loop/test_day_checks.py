from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from deploy.loop.day_checks import findings
from deploy.loop.poison import PoisonError, poisoned
from deploy.loop.search_log import SearchLog, read_search_log
from deploy.loop.streams import JsonLineStreams
from tests.deploy.loop.small_traffic import FIRST_DAY, day_of, simulator_of, write_small_shop

DAY = timedelta(days=1)


@pytest.fixture
def days(tmp_path):
    simulator = simulator_of(write_small_shop(tmp_path / "shop"), searches=200)
    return [day_of(simulator, FIRST_DAY + number * DAY) for number in range(3)]


def log_of(day, number, folder):
    streams = JsonLineStreams(folder)
    for stream, documents in day.streams.items():
        streams.append(stream, documents)
    start = FIRST_DAY + number * DAY
    return read_search_log(streams, start, start + DAY)


def findings_of(days, kind, folder):
    before = [
        search for number in range(2) for search in log_of(days[number], number, folder).searches
    ]
    last = poisoned(days[2], kind) if kind else days[2]
    return findings(log_of(last, 2, folder), before)


def test_a_usual_day_is_taken(days, tmp_path):
    assert findings_of(days, "", tmp_path) == []


def test_a_robot_is_found_and_named(days, tmp_path):
    found = findings_of(days, "robot", tmp_path)
    assert any(each.startswith("shopper 1 by searches: got") for each in found)
    assert not any("f00dface" in each for each in found)  # it may be a person


def test_a_swapped_feature_is_found_and_named(days, tmp_path):
    found = findings_of(days, "swapped_feature", tmp_path)
    assert any(each.startswith("feature retrieval_score: got a PSI of") for each in found)


def test_a_missing_field_is_found_and_named(days, tmp_path):
    found = findings_of(days, "missing_field", tmp_path)
    assert any(each.startswith("client_id: got none in 100% of the searches") for each in found)


def test_an_unknown_poison_names_the_nearest(days):
    with pytest.raises(PoisonError, match="want one of robot"):
        poisoned(days[0], "robots")


def test_a_search_that_the_shop_alone_wrote_down_needs_no_candidates(days, tmp_path):
    both = log_of(days[0], 0, tmp_path)
    alone = [
        replace(each, by_gateway=False, retrieved_ids=(), retrieval_scores=())
        for each in both.searches
    ]
    assert findings(SearchLog(alone, 0, 0), []) == []
    lost = [replace(each, by_gateway=True) for each in alone]
    assert findings(SearchLog(lost, 0, 0), [])[0].startswith("products.before: got none in")

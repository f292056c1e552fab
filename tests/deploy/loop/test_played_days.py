from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from deploy.loop.daily import due_days
from deploy.loop.documents import document_of
from deploy.loop.learning import Learner, RoundPlan
from deploy.loop.log_tables import LogTables
from deploy.loop.played_days import Days
from deploy.loop.streams import JsonLineStreams

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE_AND_A_HALF = Days(NOON, timedelta(seconds=90))


def test_a_day_is_a_day_of_the_calendar_unless_told_otherwise():
    assert Days().start(date(2018, 1, 2)) == datetime(2018, 1, 2, tzinfo=UTC)
    assert Days().day_of(datetime(2018, 1, 2, 23, 59, tzinfo=UTC)) == date(2018, 1, 2)
    assert Days().delay == timedelta(hours=1)


def test_short_days_follow_each_other_by_date():
    days = MINUTE_AND_A_HALF
    assert days.start(date(2026, 3, 1)) == NOON
    assert days.start(date(2026, 3, 3)) == NOON + timedelta(seconds=180)
    assert days.day_of(NOON + timedelta(seconds=89)) == date(2026, 3, 1)
    assert days.day_of(NOON + timedelta(seconds=90)) == date(2026, 3, 2)
    assert days.day_of(NOON - timedelta(seconds=1)) == date(2026, 2, 28)
    assert days.delay == timedelta(seconds=3.75)  # 90 s / 24


def test_short_days_are_due_when_their_events_have_come(tmp_path):
    streams = JsonLineStreams(tmp_path / "streams")
    for seconds in (-500, 10, 100):  # one before the first day, which is of no day
        moment = (NOON + timedelta(seconds=seconds)).isoformat()
        streams.append("ubi_queries", [document_of({"@timestamp": moment, "query_id": seconds})])
    tables = LogTables(tmp_path / "learning", tmp_path)
    learner = Learner(RoundPlan(tmp_path, days=MINUTE_AND_A_HALF), tables, streams)
    assert due_days(learner, NOON + timedelta(seconds=93)) == []
    assert due_days(learner, NOON + timedelta(seconds=94)) == [date(2026, 3, 1)]
    assert len(due_days(learner, NOON + timedelta(seconds=185))) == 2


def test_a_taken_day_whose_round_was_stopped_is_due_again(tmp_path):
    streams, tables = JsonLineStreams(tmp_path), LogTables(tmp_path / "learning", tmp_path)
    learner = Learner(RoundPlan(tmp_path), tables, streams)
    evening = datetime(2018, 1, 3, 22, tzinfo=UTC)
    tables.add(date(2018, 1, 2), [], [])
    assert due_days(learner, evening) == [date(2018, 1, 2)]
    tables.finish(date(2018, 1, 2))
    assert due_days(learner, evening) == []

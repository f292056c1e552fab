from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch

from deploy.loop.daily import due_days, run_due_rounds
from deploy.loop.errors import LearningError
from deploy.loop.learning import SMALL_NETWORK, Learner, RoundPlan, round_documents
from deploy.loop.log_tables import LogTables
from deploy.loop.poison import poisoned
from deploy.loop.publishing import BundlePublisher
from deploy.loop.quality_report import ExperimentPlan, experiment_documents, quality_report
from deploy.loop.rankers import RetrievalOrder
from deploy.loop.search_log import read_search_log
from deploy.loop.streams import ElasticsearchStreams, JsonLineStreams
from es_plugin_config.apply import apply
from es_plugin_config.cluster import Login
from es_plugin_config.resources import read_resources
from tests.deploy.loop.small_traffic import FIRST_DAY, day_of, simulator_of, write_small_shop
from tests.es_plugin_config.nodes import own_node

DAY = timedelta(days=1)
ONE_EPOCH = SMALL_NETWORK.replace("epochs = 3", "epochs = 1").replace("_batch = 32", "_batch = 16")


def simulate(streams, shop, days, *, poison=None, searches=120):
    simulator = simulator_of(shop, searches=searches)
    for number in range(days):
        day = day_of(simulator, FIRST_DAY + number * DAY)
        if poison and number == days - 1:
            day = poisoned(day, poison)
        for stream, documents in day.streams.items():
            streams.append(stream, documents)


def learner_of(folder, shop, streams):
    return Learner(RoundPlan(folder, ONE_EPOCH), LogTables(folder, shop), streams)


def test_finished_days_after_the_watermark_are_due(tmp_path):
    shop = write_small_shop(tmp_path / "shop")
    streams = JsonLineStreams(tmp_path / "streams")
    learner = learner_of(tmp_path / "learning", shop, streams)
    noon = FIRST_DAY + 3 * DAY + timedelta(hours=12)
    assert due_days(learner, noon) == []
    simulate(streams, shop, 1, searches=20)
    assert [each.day for each in due_days(learner, noon)] == [2, 3, 4]
    learner.tables.add(FIRST_DAY.date(), [], ["robots"])
    assert [each.day for each in due_days(learner, noon)] == [3, 4]
    # half an hour past midnight, events of the day before may still come
    assert [each.day for each in due_days(learner, FIRST_DAY + 2.02 * DAY)] == []


def test_a_poisoned_day_is_read_refused_and_trains_nothing(tmp_path):
    shop = write_small_shop(tmp_path / "shop")
    streams = JsonLineStreams(tmp_path / "streams")
    simulate(streams, shop, 2, poison="missing_field")
    learner = learner_of(tmp_path / "learning", shop, streams)
    publisher = BundlePublisher(tmp_path / "learning")
    rounds = list(run_due_rounds(learner, publisher, FIRST_DAY + 3 * DAY))
    assert [each.decision for each in rounds] == ["taken", "refused"]
    assert "client_id" in rounds[1].reasons[0]
    assert not (tmp_path / "learning" / "serving.json").exists()
    assert [each.taken for each in learner.tables.verdicts()] == [True, False]
    [run, *_] = [json.loads(each.body) for each in documents_of(rounds[1])]
    assert run["decision"] == "refused"
    assert "client_id" in run["reason"]


def test_a_refused_day_is_in_no_training_log(tmp_path):
    shop = write_small_shop(tmp_path / "shop")
    streams = JsonLineStreams(tmp_path / "streams")
    simulate(streams, shop, 1)
    log = read_search_log(streams, FIRST_DAY, FIRST_DAY + DAY)
    tables = LogTables(tmp_path / "learning", shop)
    tables.add(FIRST_DAY.date(), log.searches, [])
    tables.add((FIRST_DAY + DAY).date(), log.searches, ["a robot"])
    assert tables.taken_days() == [FIRST_DAY.date()]
    assert tables.watermark() == (FIRST_DAY + DAY).date()
    with pytest.raises(LearningError, match="days: got 1, want at least 2"):
        tables.write_training_log(tmp_path / "log", tables.taken_days(), None, 1)


def test_days_that_the_streams_hold_no_more_are_no_measure(tmp_path):
    shop = write_small_shop(tmp_path / "shop")
    streams = JsonLineStreams(tmp_path / "streams")
    simulate(streams, shop, 5, poison="missing_field")
    tables = LogTables(tmp_path / "learning", shop)
    for number in range(4):
        start = FIRST_DAY + number * DAY
        tables.add(start.date(), read_search_log(streams, start, start + DAY).searches, [])
    for number in range(3):  # retention: the queries of UBI are kept longer than our searches
        day = (FIRST_DAY + number * DAY).date()
        (tmp_path / "streams" / "crossrank-searches" / f"{day}.jsonl").unlink()

    def round_of(baseline_days):
        plan = RoundPlan(tmp_path / "learning", ONE_EPOCH, baseline_days=baseline_days)
        learner = Learner(plan, tables, streams)
        newest = (FIRST_DAY + 4 * DAY).date()
        return learner.run(newest, RetrievalOrder(), BundlePublisher(tmp_path / "learning"))

    whole, beyond = round_of(1), round_of(28)
    assert [reason.split(":")[0] for reason in whole.reasons] == ["client_id"]
    assert "feature candidates" in [reason.split(":")[0] for reason in beyond.reasons]
    assert {each.name for each in whole.drift if each.shifted} == set()


def test_the_streams_keep_the_days_that_are_the_measure():
    templates = read_resources()
    [kept] = [
        each.body["template"]["lifecycle"]["data_retention"]
        for each in templates
        if each.path == "/_index_template/crossrank-searches"
    ]
    assert RoundPlan(Path()).baseline_days < int(kept.removesuffix("d"))


def documents_of(result):
    return round_documents(result, 1, datetime(2018, 1, 5, tzinfo=UTC))


@pytest.fixture
def own_elasticsearch() -> Iterator[tuple[str, Elasticsearch]]:
    with own_node() as url, Elasticsearch(url, request_timeout=30) as client:
        yield url, client


@pytest.mark.slow
@pytest.mark.elasticsearch
def test_one_round_from_elasticsearch_to_a_bundle_that_serves(own_elasticsearch, tmp_path):
    elasticsearch_url, elasticsearch_client = own_elasticsearch
    apply(elasticsearch_client, read_resources(), report=lambda *_: None)
    shop = write_small_shop(tmp_path / "shop")
    streams = ElasticsearchStreams(elasticsearch_client, Login(elasticsearch_url))
    simulate(streams, shop, 2)
    simulate(streams, shop, 2)  # once more: nothing is stored twice
    files = JsonLineStreams(tmp_path / "streams")
    simulate(files, shop, 2)
    span = (FIRST_DAY, FIRST_DAY + 2 * DAY)
    assert read_search_log(streams, *span) == read_search_log(files, *span)

    learner = learner_of(tmp_path / "learning", shop, streams)
    publisher = BundlePublisher(tmp_path / "learning")
    first, second = run_due_rounds(learner, publisher, FIRST_DAY + 2 * DAY + DAY / 2)
    assert first.decision == "taken"
    assert second.decision in ("canary", "rejected")
    assert second.candidate is not None
    publisher.publish(second.candidate)
    assert (second.serving_bundle_id, second.canary_bundle_id) == ("", "")
    served = publisher.served(1).order
    assert served.bundle_id == second.candidate.bundle_id
    assert list(run_due_rounds(learner, publisher, FIRST_DAY + 2 * DAY + DAY / 2)) == []

    elasticsearch_client.indices.refresh(index="crossrank-learning")
    kinds = {
        hit["_source"]["kind"]
        for hit in elasticsearch_client.search(index="crossrank-learning", size=100)["hits"]["hits"]
    }
    assert kinds == {"run", "quality", "drift"}

    arms = {"current": (0.5, RetrievalOrder()), "canary": (0.5, served)}
    day = simulator_of(shop).day(FIRST_DAY + 2 * DAY, arms)
    for stream, documents in day.streams.items():
        streams.append(stream, documents)
    log = read_search_log(streams, FIRST_DAY + 2 * DAY, FIRST_DAY + 3 * DAY)
    plan = ExperimentPlan("current", "canary", 0.5)
    report = quality_report(log.searches, [], plan)
    assert {each.metric for each in report.experiment} >= {"ctr", "mrr"}
    streams.append(
        "crossrank-experiments",
        experiment_documents(report.experiment, plan, datetime.now(UTC)),
    )

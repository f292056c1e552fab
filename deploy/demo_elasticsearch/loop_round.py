"""One round of the loop: traffic, learning, canary, and what it came to."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from elasticsearch import ApiError, Elasticsearch, TransportError

from deploy.demo_elasticsearch.errors import TelemetryLateError
from deploy.demo_elasticsearch.loop_demo import (
    CROSSRANK,
    SEED,
    TIMEOUT_MS,
    Addresses,
    First,
    LoopDemo,
)
from deploy.loop.documents import APPLICATION
from deploy.loop.streams import open_streams, parse_time
from deploy.loop.traffic import QUERIES, SEARCHES
from es_plugin_config.cluster import Login
from rerank_server.gateway.ranking import STATUS_EVERY_S

TELEMETRY_S = 60.0


def let_shoppers_search(demo: LoopDemo, addresses: Addresses) -> None:
    """Let simulated shoppers search, once a round.

    Raises:
        CommandFailedError: A command said no.
    """
    settings, done = demo.settings, demo.done
    with demo.display.step("Shoppers", "search through the gateway, half of them unranked pages"):
        if done.traffic:
            demo.display.say(f"reused: {settings.searches} searches from {done.traffic['begin']}")
            return
        _wait_for_variant()
        begin = datetime.now(UTC).replace(microsecond=0)
        table = _simulate(demo, addresses, settings.searches, "traffic")
        reranked = _wait_for_telemetry(addresses.elasticsearch, begin)
        begin, end = _span(addresses.elasticsearch, begin)
        length_s = math.ceil((end - begin).total_seconds() / 2) + 1
        done.traffic = {
            "begin": begin.isoformat(),
            "day_seconds": length_s,
            "reranked": reranked,
            "table": table,
        }
        demo.display.show(table)
        demo.folder.keep(done)


def _simulate(demo: LoopDemo, addresses: Addresses, searches: int, name: str) -> str:
    folder = demo.folder
    truth = folder.truth(demo.done.rounds)
    return demo.run(
        name,
        CROSSRANK,
        [
            "simulate", str(folder.shop), "--gateway", addresses.gateway,
            "--streams", addresses.elasticsearch, "--shopper-key", str(folder.key_file()),
            "--searches", str(searches), "--seed", str(SEED), "--timeout-ms", str(TIMEOUT_MS),
            "--truth", str(truth.with_stem(f"{truth.stem}-{name}")),
        ],
    ).rstrip()  # fmt: skip


def learn(demo: LoopDemo, first: First, addresses: Addresses) -> None:
    """Run the round of learning, once a round.

    Raises:
        CommandFailedError: A command said no.
    """
    settings, done, folder = demo.settings, demo.done, demo.folder
    doing = "one round: read, check, train from the serving weights, compare, publish"
    with demo.display.step("Learn", doing):
        if done.learned:
            demo.display.say(f"reused: {done.learned['decision']}")
            return
        begin = datetime.fromisoformat(done.traffic["begin"])
        length = timedelta(seconds=done.traffic["day_seconds"])
        over = begin + 2 * length + length / 24 + timedelta(seconds=1)
        time.sleep(max((over - datetime.now(UTC)).total_seconds(), 0))
        serving, run = demo.serving(first)
        arguments = [
            "learn", str(folder.learning(done.rounds)), str(folder.shop),
            "--streams", addresses.elasticsearch, "--shopper-key", str(folder.key_file()),
            "--serving", str(serving), "--serving-run", str(run),
            "--days-from", f"{begin:%Y-%m-%dT%H:%M:%S}",
            "--day-seconds", str(done.traffic["day_seconds"]),
            "--server", addresses.server, "--canary-percent", f"{settings.canary_percent:g}",
            "--json",
        ]  # fmt: skip
        rounds: list[dict[str, Any]] = json.loads(demo.run("learn", CROSSRANK, arguments))
        done.learned = rounds[-1] | {"served": str(serving), "began": done.traffic["begin"]}
        for each in rounds:
            demo.display.say(f"{each['day']}: {each['decision']} {'; '.join(each['reasons'])}")
        demo.folder.keep(done)


def try_canary(demo: LoopDemo, addresses: Addresses) -> None:
    """Let the same shoppers search while the learned bundle answers some of them.

    Raises:
        CommandFailedError: A command said no.
    """
    done = demo.done
    with demo.display.step("Canary", "the same shoppers, some of them with the learned bundle"):
        if done.learned.get("decision") != "canary":
            demo.display.say(f"none: {done.learned.get('decision')}; the gate let nothing through")
            return
        if done.canary:
            demo.display.say("reused")
            return
        _wait_for_variant()
        begin = datetime.now(UTC)
        table = _simulate(demo, addresses, max(demo.settings.searches // 2, 1), "canary")
        _wait_for_telemetry(addresses.elasticsearch, begin)
        done.canary = {"begin": begin.isoformat(), "table": table}
        demo.display.show(table)
        demo.folder.keep(done)


def report(demo: LoopDemo, addresses: Addresses) -> None:
    """Report on the traffic, and draw the dashboards over it.

    Raises:
        CommandFailedError: A command said no.
    """
    done, url = demo.done, addresses.elasticsearch
    with demo.display.step("Figures", "quality by arm with intervals, and the dashboards"):
        if done.quality:
            demo.display.say(f"reused: {demo.folder.pictures}")
            return
        begin = datetime.fromisoformat(done.traffic["begin"])
        days = (datetime.now(UTC).date() - begin.date()).days + 1
        report = demo.run(
            "quality",
            CROSSRANK,
            [
                "quality", f"{begin:%Y-%m-%d}", "--days", str(days), "--streams", url,
                "--experiment", "retrieval,current,0.5", "--record", "--json",
            ],
        )  # fmt: skip
        hours = math.ceil((datetime.now(UTC) - begin).total_seconds() / 3600)
        draw = ["draw", "--url", url, "--hours", str(hours), "--out", str(demo.folder.pictures)]
        demo.run("draw", "es_plugin_config.kibana", draw)
        done.quality = json.loads(report)
        demo.folder.keep(done)


def _wait_for_variant() -> None:
    """Wait until the gateway has asked the server which bundles answer, as it does every 5 s."""
    time.sleep(STATUS_EVERY_S + 1.0)


def _span(url: str, begin: datetime) -> tuple[datetime, datetime]:
    """Return when the first search since `begin` was made, to the second, and the last one.

    Raises:
        StreamError: The cluster does not answer.
    """
    with open_streams(Login(url)) as streams:
        times = [
            parse_time(row["@timestamp"])
            for name in (QUERIES, SEARCHES)
            for row in streams.read(name, begin, datetime.now(UTC))
        ]
    return min(times, default=begin).replace(microsecond=0), max(times, default=begin)


def _wait_for_telemetry(url: str, begin: datetime) -> int:
    """Return how many searches the gateway has recorded since `begin`, once no more come.

    Raises:
        TelemetryLateError: None came in time, or the cluster does not answer.
    """
    query = {
        "bool": {
            "filter": [
                {"range": {"@timestamp": {"gte": begin.isoformat()}}},
                {"term": {"application": APPLICATION}},
            ]
        }
    }
    until, before = time.monotonic() + TELEMETRY_S, -1
    try:
        with Elasticsearch(url, request_timeout=30) as client:
            while time.monotonic() < until:
                client.indices.refresh(index="crossrank-searches", ignore_unavailable=True)
                answer = client.count(
                    index="crossrank-searches", query=query, ignore_unavailable=True
                )
                count = int(answer["count"])
                if 0 < count == before:
                    return count
                before = count
                time.sleep(3.0)
    except (ApiError, TransportError) as error:
        raise TelemetryLateError(f"crossrank-searches: got {error}, want its count") from error
    raise TelemetryLateError(
        f"crossrank-searches: got {before} documents since {begin:%H:%M:%S}, want those that the"
        " gateway recorded; its log says why"
    )

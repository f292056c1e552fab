from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from rerank_server.telemetry import recorder as recorder_module
from rerank_server.telemetry.bulk import BulkSender
from rerank_server.telemetry.counts import TelemetryCounts
from rerank_server.telemetry.document import DocumentRules
from rerank_server.telemetry.recorder import TelemetryRecorder
from rerank_server.telemetry.spool import Spool
from tests.rerank_server.telemetry.bulk_endpoint import BulkEndpoint, wait_until
from tests.rerank_server.telemetry.searches import search_record

MIB = 1024 * 1024
Start = Callable[..., TelemetryRecorder]


@pytest.fixture
def endpoint() -> Iterator[BulkEndpoint]:
    with BulkEndpoint() as started:
        yield started


@pytest.fixture
def counts() -> TelemetryCounts:
    return TelemetryCounts()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(recorder_module, "_LONGEST_PAUSE_S", 0.05)
    monkeypatch.setattr(recorder_module, "_SYNC_EVERY_S", 0.05)


def start(
    folder: Path, url: str, counts: TelemetryCounts, max_bytes: int = 64 * MIB, **options: int
) -> TelemetryRecorder:
    return TelemetryRecorder(
        Spool(folder, max_bytes), BulkSender(url, "searches"), DocumentRules(), counts, **options
    )


def stored(endpoint: BulkEndpoint) -> list[str]:
    return sorted(document["query_id"] for document in endpoint.documents.values())


def names(count: int) -> list[str]:
    return sorted(f"q-{number}" for number in range(count))


def test_every_search_arrives_once(
    tmp_path: Path, endpoint: BulkEndpoint, counts: TelemetryCounts
) -> None:
    recorder = start(tmp_path, endpoint.url, counts)
    for number in range(1_200):
        recorder.record(search_record(f"q-{number}"))
    wait_until(lambda: len(endpoint.documents) == 1_200)
    recorder.close()
    assert stored(endpoint) == names(1_200)
    assert counts.sent == {"created": 1_200, "known": 0}
    assert counts.lost == {}
    assert counts.taken == 1_200


def test_closing_writes_down_what_is_queued_and_the_next_start_sends_it(
    tmp_path: Path, counts: TelemetryCounts
) -> None:
    with BulkEndpoint() as gone:
        port = gone.port
    recorder = start(tmp_path, f"http://127.0.0.1:{port}", counts)
    for number in range(300):
        recorder.record(search_record(f"q-{number}"))
    recorder.close(grace_s=0.1)
    assert counts.lost == {}
    with BulkEndpoint(port) as endpoint:
        recorder = start(tmp_path, endpoint.url, TelemetryCounts())
        wait_until(lambda: len(endpoint.documents) == 300)
        recorder.close()
        assert stored(endpoint) == names(300)


def test_an_outage_loses_nothing_and_slows_no_search(
    tmp_path: Path, counts: TelemetryCounts
) -> None:
    with BulkEndpoint() as gone:
        port = gone.port
    recorder = start(tmp_path, f"http://127.0.0.1:{port}", counts)
    slowest = 0.0
    for number in range(2_000):
        began = time.perf_counter()
        recorder.record(search_record(f"q-{number}"))
        slowest = max(slowest, time.perf_counter() - began)
        if number % 200 == 0:
            time.sleep(0.02)
    wait_until(lambda: counts.failed.get("connection", 0) > 3)
    assert slowest < 0.1  # a waiting call would take seconds
    with BulkEndpoint(port) as endpoint:
        wait_until(lambda: len(endpoint.documents) == 2_000)
        recorder.close()
        assert stored(endpoint) == names(2_000)
    assert counts.lost == {}


def test_a_busy_cluster_gets_again_what_it_refused_and_only_that(
    tmp_path: Path, endpoint: BulkEndpoint, counts: TelemetryCounts
) -> None:
    asked: list[list[str]] = []

    def busy(ids: list[str]) -> int:
        asked.append(ids)
        endpoint.item_status = {ids[0]: 429} if len(asked) < 3 else {}
        return 200

    endpoint.fault = busy
    recorder = start(tmp_path, endpoint.url, counts)
    recorder.record(search_record("q-0"))
    recorder.record(search_record("q-1"))
    wait_until(lambda: len(endpoint.documents) == 2)
    recorder.close()
    assert counts.sent["created"] == 2
    assert counts.failed["refused"] == 2
    assert counts.lost == {}


def test_a_document_that_does_not_fit_the_mapping_is_lost_and_the_others_go_on(
    tmp_path: Path, endpoint: BulkEndpoint, counts: TelemetryCounts
) -> None:
    def refuse_the_first(ids: list[str]) -> int:
        if not endpoint.item_status:
            endpoint.item_status = {ids[0]: 400}
        return 200

    endpoint.fault = refuse_the_first
    recorder = start(tmp_path, endpoint.url, counts)
    for number in range(10):
        recorder.record(search_record(f"q-{number}"))
    wait_until(lambda: len(endpoint.documents) == 9)
    recorder.close()
    assert counts.lost == {"rejected": 1}


def test_a_request_that_is_too_large_is_cut_and_one_document_alone_is_given_up(
    tmp_path: Path, endpoint: BulkEndpoint, counts: TelemetryCounts
) -> None:
    giant: list[str] = []

    def at_most_four(ids: list[str]) -> int:
        giant.append(ids[0]) if not giant else None
        return 413 if len(ids) > 4 or giant[0] in ids else 200

    endpoint.fault = at_most_four
    recorder = start(tmp_path, endpoint.url, counts)
    for number in range(50):
        recorder.record(search_record(f"q-{number}"))
    wait_until(lambda: len(endpoint.documents) == 49)
    recorder.close()
    assert counts.lost == {"too_large": 1}


def test_a_document_for_which_requests_are_refused_as_a_whole_is_given_up_alone(
    tmp_path: Path, endpoint: BulkEndpoint, counts: TelemetryCounts
) -> None:
    wrong: list[str] = []

    def unreadable(ids: list[str]) -> int:
        wrong.append(ids[0]) if not wrong else None
        return 400 if wrong[0] in ids else 200

    endpoint.fault = unreadable
    recorder = start(tmp_path, endpoint.url, counts)
    for number in range(20):
        recorder.record(search_record(f"q-{number}"))
    wait_until(lambda: len(endpoint.documents) == 19)
    recorder.close()
    assert counts.lost == {"rejected": 1}


def test_a_cluster_that_refuses_every_request_loses_nothing(
    tmp_path: Path, endpoint: BulkEndpoint, counts: TelemetryCounts
) -> None:
    endpoint.fault = lambda _: 400
    recorder = start(tmp_path, endpoint.url, counts)
    for number in range(10):
        recorder.record(search_record(f"q-{number}"))
    wait_until(lambda: counts.failed.get("http_400", 0) > 0)
    endpoint.fault = lambda _: 200
    wait_until(lambda: len(endpoint.documents) == 10)
    recorder.close()
    assert counts.lost == {}


def test_losses_at_each_limit_are_counted(tmp_path: Path, counts: TelemetryCounts) -> None:
    with BulkEndpoint() as gone:
        url = gone.url
    recorder = start(tmp_path / "small", url, counts, max_bytes=20_000)
    for number in range(100):
        recorder.record(search_record(f"q-{number}"))
    wait_until(lambda: counts.lost.get("spool_full", 0) > 0)
    recorder.close(grace_s=0.1)
    kept = 100 - counts.lost["spool_full"]
    with BulkEndpoint() as endpoint:
        recorder = start(tmp_path / "small", endpoint.url, TelemetryCounts())
        wait_until(lambda: len(endpoint.documents) == kept)
        recorder.close()
        assert stored(endpoint) == sorted(f"q-{number}" for number in range(kept))


def test_a_full_queue_loses_and_counts_and_never_waits(
    tmp_path: Path, endpoint: BulkEndpoint, counts: TelemetryCounts
) -> None:
    recorder = start(tmp_path, endpoint.url, counts, queue_searches=0)
    recorder.record(search_record())
    recorder.close()
    assert counts.lost == {"queue_full": 1}


def test_a_search_that_cannot_be_written_is_counted_and_the_next_one_goes_on(
    tmp_path: Path, endpoint: BulkEndpoint, counts: TelemetryCounts
) -> None:
    recorder = start(tmp_path, endpoint.url, counts)
    recorder.record(search_record(total_hits=float("nan")))
    recorder.record(search_record(candidate_ids=("x" * 2 * MIB,), reranked_ids=()))
    recorder.record(search_record("q-0"))
    wait_until(lambda: len(endpoint.documents) == 1)
    recorder.close()
    assert counts.lost == {"unwritable": 1, "too_large": 1}


def test_the_metrics_have_the_names_that_the_alerts_use(
    tmp_path: Path, endpoint: BulkEndpoint, counts: TelemetryCounts
) -> None:
    recorder = start(tmp_path, endpoint.url, counts)
    recorder.record(search_record())
    wait_until(lambda: counts.sent.get("created") == 1)
    counts.count_lost("spool_full", 3)
    registry = CollectorRegistry()
    registry.register(counts)
    text = generate_latest(registry).decode()
    recorder.close()
    assert "crossrank_telemetry_searches_total 1.0" in text
    assert 'crossrank_telemetry_documents_total{outcome="created"} 1.0' in text
    assert 'crossrank_telemetry_lost_total{reason="spool_full"} 3.0' in text
    assert "crossrank_telemetry_queue 0.0" in text
    assert "crossrank_telemetry_spool_bytes" in text
    assert "crossrank_telemetry_delay_seconds" in text


RECORDING = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from rerank_server.telemetry.settings import Telemetry, TelemetrySettings
    from tests.rerank_server.telemetry.searches import search_record
    folder, url, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    telemetry = Telemetry(TelemetrySettings(telemetry_url=url, telemetry_spool=folder))
    for number in range(first, first + 400):
        telemetry.record(search_record(f"q-{number}"))
    backlog = telemetry.counts.backlog
    while backlog().queued:
        pass
    import time
    time.sleep(0.3)  # the batch that left the queue reaches the spool
    print("recorded", flush=True)
    time.sleep(60)
    """
)


def test_a_killed_gateway_loses_nothing_that_reached_the_spool(
    tmp_path: Path, counts: TelemetryCounts
) -> None:
    with BulkEndpoint() as gone:
        url, port = gone.url, gone.port
    for first in (0, 400):
        command = [sys.executable, "-c", RECORDING, str(tmp_path), url, str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "recorded\n"
            process.send_signal(signal.SIGKILL)
    with BulkEndpoint(port) as endpoint:
        recorder = start(tmp_path, endpoint.url, counts)
        wait_until(lambda: len(endpoint.documents) == 800)
        recorder.close()
        assert stored(endpoint) == names(800)


def test_a_kill_between_sending_and_committing_stores_nothing_twice(
    tmp_path: Path, endpoint: BulkEndpoint, counts: TelemetryCounts
) -> None:
    recorder = start(tmp_path, endpoint.url, counts)
    for number in range(20):
        recorder.record(search_record(f"q-{number}"))
    wait_until(lambda: len(endpoint.documents) == 20)
    recorder.close()
    for cursor in tmp_path.glob("cursor*"):
        cursor.unlink()  # as if the process had died before it wrote down what was sent
    again = TelemetryCounts()
    recorder = start(tmp_path, endpoint.url, again)
    wait_until(lambda: again.sent.get("known") == 20)
    recorder.close()
    assert again.sent["created"] == 0
    assert len(endpoint.documents) == 20

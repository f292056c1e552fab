"""What serves, by a server's own word and by the notes of the learning folder."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.loop.daily import run_due_rounds
from deploy.loop.errors import LearningError
from deploy.loop.learning import Learner, RoundPlan
from deploy.loop.log_tables import LogTables
from deploy.loop.publishing import BundlePublisher, Canary, Serving
from deploy.loop.rankers import RetrievalOrder
from deploy.loop.streams import JsonLineStreams
from deploy.loop.training import CandidateBundle, settings_of_run, signals_of_run
from rerank_server.bundle_store import BundleStore
from rerank_server.client.bundle_admin import BundleAdmin
from rerank_server.client.connection import Connection
from rerank_server.client.messages import CallError
from rerank_server.client.rerank_client import RerankClient
from rerank_server.commands.root import main
from rerank_server.contract.bundle import write_bundle
from rerank_server.doors import Doors
from rerank_server.reranker import Reranker
from tests.deploy.loop.small_traffic import day_of, simulator_of, write_small_shop
from tests.rerank_server.gateway.running import in_thread
from tests.rerank_server.running import tiny_rerank_server
from tests.rerank_server.tiny_bundle import tiny_content, tiny_graph_bytes, write_tiny_store


def candidate_in(folder: Path, sign: float, run: Path | None = None) -> CandidateBundle:
    """A tiny bundle with its store, as training leaves them; `sign` turns its order round."""
    bundle = write_bundle(folder / "bundle", tiny_content(tiny_graph_bytes(sign=sign)))
    write_tiny_store(folder / "products", bundle, folder / "snapshot")
    return CandidateBundle(bundle.manifest.bundle_id, folder, 10, 0.5, run)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> tuple[CandidateBundle, CandidateBundle]:
    root = tmp_path_factory.mktemp("bundles")
    return candidate_in(root / "first", 1.0), candidate_in(root / "new", -1.0, root / "run")


@pytest.fixture
def address(bundles) -> Iterator[str]:
    """A server that serves the first of the bundles and may be told of others."""

    def open_bundle(bundle: Path, products: Path) -> Reranker:
        return Reranker.open(bundle, products, threads=1)

    @asynccontextmanager
    async def serve() -> AsyncIterator[str]:
        store = BundleStore(open_bundle(bundles[0].bundle, bundles[0].products), open_bundle)
        server = tiny_rerank_server(store, doors=Doors(admin=True))
        port = await server.start("localhost", 0)
        try:
            yield f"localhost:{port}"
        finally:
            await server.stop(timedelta(seconds=1))

    with in_thread(serve) as served:
        yield served


@pytest.fixture
def canary(address) -> Iterator[Canary]:
    """The same server, to be told and asked."""
    connection = Connection(address, timeout_ms=10_000)
    with BundleAdmin(connection) as admin, RerankClient(connection) as client:
        yield Canary(admin, client, 50.0)


def what_serves(publisher: BundlePublisher) -> tuple[str, Path | None, str]:
    served = publisher.served(1)
    return served.order.bundle_id, served.run, served.canary_id


def test_before_the_first_publication_serves_what_was_said_to(tmp_path, bundles):
    assert isinstance(BundlePublisher(tmp_path).served(1).order, RetrievalOrder)
    assert BundlePublisher(tmp_path).served(1).run is None
    first = Serving(bundles[0].folder, tmp_path / "runs" / "one")
    publisher = BundlePublisher(tmp_path, first=first)
    assert what_serves(publisher) == (bundles[0].bundle_id, first.run, "")


def test_without_a_server_what_was_published_last_serves(tmp_path, bundles):
    first, new = bundles
    publisher = BundlePublisher(tmp_path, first=Serving(first.folder, tmp_path / "old"))
    publisher.publish(new)
    assert what_serves(publisher) == (new.bundle_id, new.run, "")
    publisher.publish(first)
    assert what_serves(publisher) == (first.bundle_id, None, "")
    publisher.publish(new)
    assert what_serves(publisher) == (new.bundle_id, new.run, "")
    (tmp_path / "serving.json").write_text(
        json.dumps({"bundle_id": first.bundle_id, "folder": str(first.folder), "run": "r"})
    )  # as it was written before earlier ones were kept
    assert what_serves(publisher) == (first.bundle_id, Path("r"), "")
    (tmp_path / "serving.json").write_text("[]")
    with pytest.raises(LearningError, match="want a note of what was published"):
        publisher.served(1)


def test_a_canary_that_was_rolled_back_is_not_what_the_next_is_compared_with(
    tmp_path, bundles, canary
):
    first, new = bundles
    publisher = BundlePublisher(tmp_path, canary, Serving(first.folder))
    publisher.publish(new)
    assert what_serves(publisher) == (first.bundle_id, None, new.bundle_id)
    canary.admin.roll_back()
    assert what_serves(publisher) == (first.bundle_id, None, "")
    publisher.publish(new)
    canary.admin.promote()
    assert what_serves(publisher) == (new.bundle_id, new.run, "")
    canary.admin.roll_back()
    assert what_serves(publisher) == (first.bundle_id, None, "")


def test_a_server_that_serves_what_nobody_named_stops_the_round(tmp_path, bundles, canary):
    first, new = bundles
    with pytest.raises(LearningError, match=rf"got bundle {first.bundle_id[:12]}.* no --serving"):
        BundlePublisher(tmp_path, canary).served(1)
    other = BundlePublisher(tmp_path, canary, Serving(new.folder))
    with pytest.raises(LearningError, match=f"and --serving {new.bundle_id[:12]}, want"):
        other.served(1)


def test_a_server_that_cannot_be_asked_stops_the_round_before_the_day_is_read(tmp_path, bundles):
    shop, streams = write_small_shop(tmp_path / "shop"), JsonLineStreams(tmp_path / "streams")
    day = day_of(simulator_of(shop, searches=30), datetime(2018, 1, 2, tzinfo=UTC))
    for stream, documents in day.streams.items():
        streams.append(stream, documents)
    tables = LogTables(tmp_path / "learning", shop)
    learner = Learner(RoundPlan(tmp_path / "learning"), tables, streams)
    connection = Connection("localhost:1", timeout_ms=10_000)  # nobody listens there
    with BundleAdmin(connection) as admin, RerankClient(connection) as client:
        publisher = BundlePublisher(
            tmp_path, Canary(admin, client, 50.0), Serving(bundles[0].folder)
        )
        with pytest.raises(CallError, match="localhost:1"):
            list(run_due_rounds(learner, publisher, datetime(2018, 1, 4, tzinfo=UTC)))
    assert tables.watermark() is None  # the day is due again


def test_the_command_asks_the_server_and_names_what_it_compared_with(
    tmp_path, bundles, address, canary, capsys
):
    first, new = bundles
    shop, streams = write_small_shop(tmp_path / "shop"), JsonLineStreams(tmp_path / "streams")
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    day = day_of(simulator_of(shop, searches=30), start - timedelta(days=2))
    for stream, documents in day.streams.items():
        streams.append(stream, documents)
    given = ["learn", str(tmp_path / "learning"), str(shop), "--streams", str(tmp_path / "streams")]
    given += ["--server", address, "--json"]
    assert main(given) == 1
    assert "want --serving to be the folder of what serves" in capsys.readouterr().err
    canary.admin.load(new.bundle, new.products)
    assert main([*given, "--serving", str(first.folder)]) == 0
    [done] = json.loads(capsys.readouterr().out)
    assert done["decision"] == "taken"  # the first day: nothing to compare yet
    assert (done["serving_bundle_id"], done["canary_bundle_id"]) == (
        first.bundle_id,
        new.bundle_id,
    )


def test_a_network_to_start_from_gives_the_shape_of_the_next(tmp_path):
    values = {"width": 24, "hidden": [32, 16], "rank": 1, "heads": 2, "page_layers": 1}
    values |= {"number_bins": 3, "name": "a", "gate": "mmoe", "shopper_sequence": False}
    (tmp_path / "config.json").write_text(json.dumps(values))
    settings = settings_of_run(tmp_path)
    assert "width = 24\nhidden = [32, 16]\nrank = 1\n" in settings
    assert 'name = "loop"\n' in settings
    assert 'gate = "mmoe"\nshopper_sequence = false\n' in settings
    with pytest.raises(LearningError, match="want the folder of a training run"):
        settings_of_run(Path("nowhere"))


def test_signals_that_no_log_of_the_loop_has_are_named(tmp_path):
    signals = [{"name": name} for name in ("store_sales_28d", "store_sales_91d", "stock")]
    (tmp_path / "names.json").write_text(json.dumps({"schema": {"signals": signals}}))
    assert signals_of_run(tmp_path) == ("stock",)
    with pytest.raises(LearningError, match="want a run that wrote down its names"):
        signals_of_run(tmp_path / "other")

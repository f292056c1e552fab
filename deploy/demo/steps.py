"""The demo's steps in order, from the data to the page; each reuses what is done."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from datetime import UTC, datetime

from deploy.demo.children import RerankServerProcess
from deploy.demo.errors import ReplayError
from deploy.demo.page_server import serve_page, taken_port
from deploy.demo.progress import StepDisplay
from deploy.demo.replay import LoggedSearch, ReplayedSearch, replay, sampled_searches
from deploy.demo.rerank_client import RerankClient
from deploy.demo.retrieval.catalogue import Catalogue
from deploy.demo.retrieval.elasticsearch_answers import connect, named_errors
from deploy.demo.retrieval.elasticsearch_index import ALIAS, TIMEOUT_S, ElasticsearchIndex
from deploy.demo.retrieval.retriever import Retriever
from deploy.demo.retrieval.tantivy_index import TantivyIndex
from deploy.demo.settings import DemoSettings
from deploy.demo.shop import Shop
from deploy.demo.summary import format_replay, replay_figures
from deploy.demo.training import Trained, train_and_export
from deploy.demo.work_folder import WorkFolder, opened_work_folder
from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.atomic_text import write_text
from trainer.encoding.dataset import Prepared

STEPS = 9


def run_demo(settings: DemoSettings) -> None:
    """Run every step; returns at the end of the figures, or serves the page until a signal.

    What can be refused at once is refused at once: the port, the work folder, Elasticsearch.

    Raises:
        RerankError: The child that names what is wrong.
    """
    display = StepDisplay(STEPS if settings.serve else STEPS - 1)
    with ExitStack() as open_things:
        listener = open_things.enter_context(taken_port(settings.port)) if settings.serve else None
        work = open_things.enter_context(opened_work_folder(settings.work))
        if settings.elasticsearch is not None:
            _require_elasticsearch(settings.elasticsearch)
        trained = train_and_export(settings, work, display)
        with display.step("Rerank server", "a process of its own"):
            server = open_things.enter_context(
                RerankServerProcess(work.bundle, work.products, work.server_log)
            )
            target = server.wait_until_serving()
            display.say(f"{target} says SERVING; process {server.pid}, log {work.server_log}")
        with display.step("Search index", settings.elasticsearch or "embedded (tantivy)"):
            shop = Shop.open(trained.prepared.path, shop_now(trained.prepared, trained.day))
            retriever = _open_index(settings, work, shop, display)
            display.say(f"{len(shop.records):,} products, {len(shop.prepared.places):,} places")
        with display.step("Replay", "searches of the first test week, retrieved and reranked"):
            _replay(settings, work, trained, shop, retriever, target, display)
        if listener is None:
            display.say(f"all done in {display.total()}")
            return
        with display.step("Page", "two orders side by side; Ctrl-C ends everything"):
            display.say(f"ready after {display.total()}")
            display.wait_for_people()
            serve_page(shop, retriever, server, target, work, listener, announce=display.say)


def shop_now(prepared: Prepared, day: int) -> int:
    """The moment that the demo's shop stands still at: the start of the test pages.

    The product store, the index and the shop then know the same: what was sold before `day`.
    """
    test_from = datetime.fromisoformat(prepared.manifest["config"]["test_from"])
    return max(int(test_from.astimezone(UTC).timestamp()), day * SECONDS_PER_DAY)


def _require_elasticsearch(url: str) -> None:
    """Refuse an Elasticsearch that does not answer before there is anything to lose."""
    client = connect(url, TIMEOUT_S)
    try:
        with named_errors(ALIAS, TIMEOUT_S):
            client.cluster.health()  # the minimal distribution has no `GET /`
    finally:
        client.close()


def _open_index(
    settings: DemoSettings, work: WorkFolder, shop: Shop, display: StepDisplay
) -> Retriever:
    catalogue = Catalogue(shop.catalogue_products(), shop.place_table())
    if settings.elasticsearch is not None:
        return ElasticsearchIndex.open(
            settings.elasticsearch, catalogue, show_progress=display.bars
        )
    return TantivyIndex.open(work.index, catalogue, show_progress=display.bars)


def _replay(
    settings: DemoSettings,
    work: WorkFolder,
    trained: Trained,
    shop: Shop,
    retriever: Retriever,
    target: str,
    display: StepDisplay,
) -> None:
    searches = sampled_searches(shop, settings.sample)
    replayed = asyncio.run(_replayed(shop, retriever, target, searches, progress=display.bars))
    if not replayed:
        raise ReplayError(
            f"searches of the week from {datetime.fromtimestamp(shop.now, UTC):%Y-%m-%d}: "
            f"got {len(searches)} answered ones, none with a candidate; want at least one"
        )
    figures = replay_figures(replayed, trained.offline)
    figures_json = figures.to_json() | {"bundle_id": trained.bundle_id}
    write_text(work.replay, json.dumps(figures_json, indent=1))
    display.show(format_replay(figures))


async def _replayed(
    shop: Shop,
    retriever: Retriever,
    target: str,
    searches: list[LoggedSearch],
    *,
    progress: bool,
) -> list[ReplayedSearch]:
    async with RerankClient(target) as client:
        return await replay(shop, retriever, client, searches, progress=progress)

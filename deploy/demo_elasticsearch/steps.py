"""The steps of the demo of the loop in order, from a bundle to a page; each reuses what is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime

from deploy.demo.page_server import taken_port
from deploy.demo.progress import StepDisplay
from deploy.demo.settings import DemoSettings
from deploy.demo.training import train_and_export
from deploy.demo.work_folder import WorkFolder, opened_work_folder
from deploy.demo_elasticsearch.both_orders import example_searches, open_traffic
from deploy.demo_elasticsearch.loop_demo import SEED, Addresses, First, LoopDemo
from deploy.demo_elasticsearch.loop_folder import Done, LoopFolder
from deploy.demo_elasticsearch.loop_page import PageFacts, write_page
from deploy.demo_elasticsearch.loop_round import learn, let_shoppers_search, report, try_canary
from deploy.demo_elasticsearch.page_server import serve_loop_page
from deploy.demo_elasticsearch.running import require_memory, start_programs
from deploy.demo_elasticsearch.settings import LoopDemoSettings
from deploy.demo_elasticsearch.shop_folder import ShopFacts, write_shop

STEPS = 14  # five of them are those of `make demo`


def run_loop_demo(settings: LoopDemoSettings) -> None:
    """Run every step; returns at the end of the figures, or serves the page until a signal.

    Raises:
        RerankError: The child that names what is wrong.
    """
    display = StepDisplay(STEPS)
    with ExitStack() as open_things:
        listener = open_things.enter_context(taken_port(settings.port)) if settings.serve else None
        demo_folder = open_things.enter_context(opened_work_folder(settings.demo))
        folder = LoopFolder(open_things.enter_context(opened_work_folder(settings.work)).path)
        if settings.elasticsearch is None:
            require_memory()
        demo = LoopDemo(settings, folder, display)
        first, facts = _first_bundle(demo, demo_folder)
        demo.done = _left(demo, first)
        addresses = start_programs(demo, first, open_things)
        let_shoppers_search(demo, addresses)
        learn(demo, first, addresses)
        try_canary(demo, addresses)
        report(demo, addresses)
        with display.step("Page", str(folder.page)):
            traffic = open_traffic(folder.shop, addresses.gateway, folder.key_file(), SEED)
            open_things.callback(traffic.close)
            if not demo.done.examples:
                demo.done.examples = example_searches(traffic)
                folder.keep(demo.done)
            running = _running(addresses, settings)
            write_page(folder.page, PageFacts(demo.done, facts, running, folder.pictures))
            display.say(f"all done in {display.total()}; {folder.page} shows it")
            if listener is not None:
                display.wait_for_people()
                serve_loop_page(folder, traffic, listener, announce=display.say)


def _first_bundle(demo: LoopDemo, work: WorkFolder) -> tuple[First, ShopFacts]:
    settings, display = demo.settings, demo.display
    given = DemoSettings(work=settings.demo, config=settings.config, serve=False)
    trained = train_and_export(given, work, display)
    finished = work.finished()
    run = work.path / (finished.run if finished is not None else "")
    with display.step("Shop", "catalogue and past purchases of those who will search"):
        facts = write_shop(
            trained.prepared,
            demo.folder.shop,
            trained.day,
            settings.shoppers,
            SEED,
            datetime.now(UTC),
        )
        display.say(
            f"{facts.products:,} products, {facts.shoppers} shoppers with {facts.purchases:,}"
            f" purchases, moved by {facts.moved_days // 7} weeks to end now"
        )
    return First(work, trained.bundle_id, run, trained.day), facts


def _left(demo: LoopDemo, first: First) -> Done:
    made_from = [first.bundle_id, demo.settings.shoppers, demo.settings.elasticsearch]
    key = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]
    done = demo.folder.done(key)
    if demo.settings.again or not done.rounds:
        done = done.next_round()
    elif not done.traffic:  # it was stopped in the middle
        done.commands = []
    return done


def _running(addresses: Addresses, settings: LoopDemoSettings) -> Mapping[str, str]:
    started = "started elsewhere" if settings.elasticsearch else "started by this demo"
    return {
        f"Elasticsearch ({started})": addresses.elasticsearch,
        "gateway, in front of it": addresses.gateway,
        "rerank server (gRPC)": addresses.server,
    }

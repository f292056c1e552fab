"""`crossrank simulate`: days of searches by simulated shoppers, with the truth kept aside."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from deploy.loop.click_model import ClickModel
from deploy.loop.gateway_traffic import GatewayPlan, GatewaySearch, GatewayTraffic
from deploy.loop.poison import poisoned
from deploy.loop.publishing import open_order
from deploy.loop.rankers import InterleavedOrder, PageOrder, RetrievalOrder
from deploy.loop.retrieval import LeafRetrieval
from deploy.loop.shop_tables import (
    PRODUCTS_FILE,
    ShopTables,
    read_shop_tables,
    write_complete_journey_slice,
    write_lines,
)
from deploy.loop.shoppers import Shoppers
from deploy.loop.streams import open_streams
from deploy.loop.traffic import EVENTS, TrafficPlan, TrafficSimulator, days_from
from es_plugin_config.cluster import Login, connect
from rerank_server.access_log import read_shopper_key
from rerank_server.commands.output import write_notice, write_table
from rerank_server.commands.stream_options import (
    DEFAULT_STREAMS,
    ApiKeyFileOption,
    CaFileOption,
    DayFormats,
    StreamsOption,
    midnight,
)
from rerank_server.contract.errors import RerankError
from rerank_server.telemetry.document import Document

app = typer.Typer(help="Write days of simulated searches into the streams.")
BundlePair = tuple[Path, Path]
_EVERY = 50


class SimulationOptionsError(RerankError):
    """Options that do not go together."""


@app.command()
def simulate(  # noqa: PLR0913 - one argument an option
    shop: Annotated[Path, typer.Argument(help="Folder of products.jsonl and interactions.jsonl.")],
    start: Annotated[
        datetime | None,
        typer.Argument(formats=DayFormats, help="First day; with --gateway it is now."),
    ] = None,
    *,
    streams: StreamsOption = DEFAULT_STREAMS,
    api_key_file: ApiKeyFileOption = None,
    ca_file: CaFileOption = None,
    days: Annotated[int, typer.Option(help="How many days.", min=1)] = 1,
    searches: Annotated[int, typer.Option(help="Searches a day.", min=1)] = 400,
    gateway: Annotated[
        str,
        typer.Option(
            metavar="URL", help="Search through this gateway, now, and draw what is clicked there."
        ),
    ] = "",
    index: Annotated[
        str, typer.Option(help="Products of --gateway, by `crossrank es index`.")
    ] = "crossrank-products",
    reranked_share: Annotated[
        float,
        typer.Option(
            help="Of the shoppers, who ask --gateway for reranked pages.", min=0.0, max=1.0
        ),
    ] = 0.5,
    timeout_ms: Annotated[
        int, typer.Option(help="For the reranker, of searches of --gateway.", min=1, max=60_000)
    ] = 1_000,
    shopper_key: Annotated[
        Path | None, typer.Option(help="Key by which --gateway hashes shoppers.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every draw.", min=0)] = 1,
    complete_journey: Annotated[
        bool,
        typer.Option("--complete-journey", help="Write a slice of the Complete Journey first."),
    ] = False,
    bundle: Annotated[
        BundlePair | None,
        typer.Option(help="Bundle and product store that order pages; retrieval without."),
    ] = None,
    arm: Annotated[
        BundlePair | None, typer.Option(help="Another pair, for the variant `canary`.")
    ] = None,
    share: Annotated[float, typer.Option(help="Of the shoppers in `canary`.", max=1.0)] = 0.5,
    interleave: Annotated[
        bool, typer.Option("--interleave", help="Show both bundles on every page instead.")
    ] = False,
    poison: Annotated[
        str, typer.Option(help="Spoil every day: robot, swapped_feature or missing_field.")
    ] = "",
    truth: Annotated[
        Path | None, typer.Option(help="File of the true attraction and examination, JSON lines.")
    ] = None,
) -> None:
    """Let shoppers of a real log search, click and buy by a position-based model.

    The same options always write the same documents; writing them twice stores them once.
    """
    if arm is None and interleave:
        raise SimulationOptionsError("--interleave: got no --arm, want one")
    if bool(gateway) == bool(start):
        raise SimulationOptionsError("first day or --gateway: got none or both, want one of them")
    login = Login(streams, api_key_file, ca_file)
    if complete_journey and not (shop / PRODUCTS_FILE).exists():
        write_complete_journey_slice(
            shop, households=200, products_per_category=60, categories=6, seed=seed
        )
    tables = read_shop_tables(shop)
    if gateway or start is None:
        key = None if shopper_key is None else read_shopper_key(shopper_key)
        plan = GatewayPlan(
            index,
            reranked_share=reranked_share,
            timeout_ms=timeout_ms,
            shopper_key=key,
            seed=seed,
        )
        _through_gateway(replace(login, url=gateway), login, tables, plan, searches, truth)
        return
    simulator = TrafficSimulator(
        Shoppers(tables, seed),
        LeafRetrieval(tables, seed),
        ClickModel(),
        TrafficPlan(searches=searches, seed=seed),
    )
    arms = _arms(bundle, arm, share, seed, interleave=interleave)
    rows, truths = [], []
    with open_streams(login) as opened:
        first = opened.first(EVENTS)
        if first is not None and first < midnight(start):
            simulator.replay(opened, first, midnight(start))
        for day in days_from(midnight(start), days):
            made = simulator.day(day, arms)
            if poison:
                made = poisoned(made, poison)
            for stream, documents in made.streams.items():
                opened.append(stream, documents)
            truths += [each.to_json() for each in made.truths]
            rows.append([day.date().isoformat(), *map(len, made.streams.values()), made.true_ndcg])
            write_notice(f"{rows[-1][0]}: {json.dumps(rows[-1][1:])}")
    if truth is not None:
        write_lines(truth, truths)
    write_table(("day", "searches", "queries", "events", "true NDCG@10"), rows)


def _through_gateway(
    gateway: Login,
    login: Login,
    tables: ShopTables,
    plan: GatewayPlan,
    count: int,
    truth: Path | None,
) -> None:
    """Search by the gateway's address, write to the streams, and say how far it is."""
    made: list[GatewaySearch] = []
    waiting: dict[str, list[Document]] = defaultdict(list)
    with open_streams(login) as opened, connect(gateway) as client:
        traffic = GatewayTraffic(Shoppers(tables, plan.seed), ClickModel(), client, plan)
        for search in traffic.searches(count):
            made.append(search)
            for stream, documents in search.documents.items():
                waiting[stream] += documents
            if len(made) % _EVERY == 0 or len(made) == count:
                for stream, documents in waiting.items():
                    opened.append(stream, documents)
                waiting.clear()
                write_notice(f"{len(made)} of {count} searches")
    if truth is not None:
        lines = [
            {**each.truth.to_json(), "arm": each.arm, "retrieval_ndcg_at_10": each.retrieval_ndcg}
            for each in made
            if each.truth.shown_ids
        ]
        write_lines(truth, lines)
    rows = []
    for arm in sorted({each.arm for each in made}):
        own = [each for each in made if each.arm == arm]
        clicks = sum(b'"click"' in document.body for e in own for document in e.documents[EVENTS])
        found = [each for each in own if each.truth.shown_ids]
        rows.append(
            [
                arm,
                len(own),
                clicks,
                float(np.mean([each.truth.ndcg for each in found])) if found else None,
                float(np.mean([each.retrieval_ndcg for each in found])) if found else None,
                float(np.median([each.took_ms for each in own])),
            ]
        )
    write_table(("arm", "searches", "clicks", "true NDCG@10", "of retrieval", "median ms"), rows)


def _arms(
    bundle: BundlePair | None, arm: BundlePair | None, share: float, seed: int, *, interleave: bool
) -> dict[str, tuple[float, PageOrder]]:
    current: PageOrder = open_order(*bundle, threads=1) if bundle else RetrievalOrder()
    if arm is None:
        return {"current": (1.0, current)}
    other = open_order(*arm, threads=1)
    if interleave:
        return {"interleaved": (1.0, InterleavedOrder(current, other, seed))}
    return {"current": (1.0 - share, current), "canary": (share, other)}

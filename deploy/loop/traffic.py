"""A day of simulated searches: who searches, what is shown, what is clicked, as UBI documents."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from deploy.loop.click_model import ClickModel
from deploy.loop.documents import (
    APPLICATION,
    SURFACE,
    SeenPage,
    SeenProduct,
    document_of,
    event_document,
)
from deploy.loop.rankers import Order, PageOrder
from deploy.loop.retrieval import FirstPass, Found
from deploy.loop.shoppers import Shoppers
from deploy.loop.streams import Streams, parse_time
from rerank_server.gateway.record import SearchRecord, StageLatency
from rerank_server.page import SearchPage, ShopperHistory
from rerank_server.telemetry.document import Document, DocumentRules, search_document
from trainer.evaluation.metrics import ndcg_at_k

SEARCHES, QUERIES, EVENTS = "crossrank-searches", "ubi_queries", "ubi_events"
_ACTIONS = ("click", "cart", "purchase")
_SECONDS_AFTER = {"impression": 1, "click": 8, "cart": 20, "purchase": 60}
_HISTORY = 200
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """How much traffic, and of what kind.

    Attributes:
        searches: A day.
        window: Candidates of a search.
        shown: Places of the page that the shopper sees; the rest is never looked at.
        impressions: Whether each place shown is an event of its own.
        null_share: Share of searches with words that nothing answers to.
        seed: Of every draw.
    """

    searches: int = 400
    window: int = 20
    shown: int = 20
    impressions: bool = True
    null_share: float = 0.02
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Truth:
    """What really was so of one search; kept aside, never in a stream.

    Attributes:
        query_id: The search.
        shown_ids: The products of the page.
        attraction: True attraction of each.
        examined: Probability that each place is looked at.
        ndcg: True NDCG@10 of the page among all candidates; NaN without candidates.
    """

    query_id: str
    shown_ids: tuple[str, ...]
    attraction: tuple[float, ...]
    examined: tuple[float, ...]
    ndcg: float

    def to_json(self) -> dict[str, Any]:
        """Return it as one line of the truth's file."""
        return {
            "query_id": self.query_id,
            "shown_ids": list(self.shown_ids),
            "attraction": [round(value, 6) for value in self.attraction],
            "examined": [round(value, 6) for value in self.examined],
            "ndcg_at_10": None if np.isnan(self.ndcg) else round(self.ndcg, 6),
        }


@dataclass(slots=True)
class DayOfTraffic:
    """The documents of one day by stream, and the truth behind them."""

    streams: dict[str, list[Document]] = field(
        default_factory=lambda: {SEARCHES: [], QUERIES: [], EVENTS: []}
    )
    truths: list[Truth] = field(default_factory=list)

    @property
    def true_ndcg(self) -> float:
        """Mean true NDCG@10 of the day's pages."""
        return float(np.nanmean([truth.ndcg for truth in self.truths]))


class TrafficSimulator:
    """Shoppers of the real log who search day after day; what they buy becomes their past."""

    def __init__(
        self, shoppers: Shoppers, first_pass: FirstPass, clicks: ClickModel, plan: TrafficPlan
    ) -> None:
        self._shoppers = shoppers
        self._first_pass = first_pass
        self._clicks = clicks
        self._plan = plan
        tables = shoppers.tables
        self._past: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
        columns = zip(
            tables.buyers.tolist(), tables.bought.tolist(), tables.times.tolist(), strict=True
        )
        for buyer, product, time in columns:
            self._past[buyer].append((time, tables.product_ids[product]))

    def day(self, start: datetime, arms: Mapping[str, tuple[float, PageOrder]]) -> DayOfTraffic:
        """Return the day that begins at `start`; the same call always gives the same day.

        Args:
            start: Midnight, UTC.
            arms: By variant, its share of the shoppers and what orders its pages.
        """
        number = int(start.timestamp()) // _DAY_S
        random = np.random.default_rng((self._plan.seed, number))
        seconds = np.sort(random.uniform(0, _DAY_S - 120, self._plan.searches))
        found = DayOfTraffic()
        for index, second in enumerate(seconds.tolist()):
            # a search has draws of its own, so that what one arm shows moves nobody else's dice
            own = np.random.default_rng((self._plan.seed, number, index))
            moment = start + timedelta(seconds=second)
            query_id = f"simulated-{self._plan.seed}-{number}-{index:05d}"
            self._search(found, query_id, moment, arms, own)
        return found

    def replay(self, streams: Streams, start: datetime, end: datetime) -> None:
        """Take purchases of days that an earlier run has simulated into the shoppers' past."""
        rows = {name: row for row, name in enumerate(self._shoppers.tables.shoppers)}
        for event in streams.read(EVENTS, start, end):
            row = rows.get(str(event.get("client_id")))
            if event["action_name"] == "purchase" and row is not None:
                product = str(event["event_attributes"]["object"]["object_id"])
                moment = int(parse_time(event["@timestamp"]).timestamp())
                self._past[row].append((moment, product))

    def _search(
        self,
        day: DayOfTraffic,
        query_id: str,
        moment: datetime,
        arms: Mapping[str, tuple[float, PageOrder]],
        random: np.random.Generator,
    ) -> None:
        plan, shoppers = self._plan, self._shoppers
        shopper = int(random.integers(len(shoppers.tables.shoppers)))
        leaves, shares = shoppers.leaves_of(shopper)
        leaf = str(random.choice(leaves, p=shares))
        missed = bool(random.random() < plan.null_share)
        found = Found(np.empty(0, np.int64), np.empty(0))
        if not missed:
            found = self._first_pass.find(leaf, plan.window, random)
        variant, ranker = chosen_arm(shoppers.tables.shoppers[shopper], arms, plan.seed)
        ordered = Order(np.arange(0), np.empty(0, np.float32))
        if found.rows.size:
            ordered = ranker.order(self._page(shopper, leaf, found, moment))
        record = self._record(query_id, leaf, shopper, moment, found, ordered, missed=missed)
        record = _of_arm(record, variant, ranker.bundle_id)
        document = search_document(record, DocumentRules(products=plan.window))
        day.streams[SEARCHES].append(document)
        day.streams[QUERIES].append(_ubi_query(document, ordered.teams[: plan.shown]))
        rows = found.rows[ordered.ranks]
        attraction = shoppers.attraction(shopper, leaf, rows)
        events, bought = self._events(record, rows, ordered.ranks, attraction, random)
        day.streams[EVENTS] += events
        self._past[shopper] += [(int(moment.timestamp()) + 60, product) for product in bought]
        shown = plan.shown
        day.truths.append(
            Truth(
                query_id,
                record.shown_ids,
                tuple(attraction[:shown].tolist()),
                tuple(self._clicks.examination(rows[:shown].size).tolist()),
                page_ndcg(attraction),
            )
        )

    def _page(self, shopper: int, leaf: str, found: Found, moment: datetime) -> SearchPage:
        tables, time = self._shoppers.tables, int(moment.timestamp())
        past = [event for event in self._past[shopper] if event[0] < time][-_HISTORY:]
        return SearchPage(
            candidate_ids=[tables.product_ids[row] for row in found.rows.tolist()],
            retrieval_scores=found.scores.astype(np.float32),
            query=leaf,
            surface=SURFACE,
            time=time,
            history=ShopperHistory(
                product_ids=[product for _, product in past],
                times=[at for at, _ in past],
                kinds=["purchase"] * len(past),
            ),
        )

    def _record(
        self,
        query_id: str,
        leaf: str,
        shopper: int,
        moment: datetime,
        found: Found,
        ordered: Order,
        *,
        missed: bool,
    ) -> SearchRecord:
        tables = self._shoppers.tables
        before = tuple(tables.product_ids[row] for row in found.rows.tolist())
        after = tuple(before[rank] for rank in ordered.ranks.tolist())
        return SearchRecord(
            query_id=query_id,
            query=f"misspelt {leaf}" if missed else leaf,
            index="products",
            started=moment,
            finished=moment,
            candidate_ids=before,
            retrieval_scores=tuple(found.scores.tolist()),
            reranked_ids=after,
            scores=tuple(ordered.scores.tolist()),
            categories=tuple(tables.categories[row] for row in found.rows.tolist()),
            shown_ids=after[: self._plan.shown],
            total_hits=len(before),
            shopper=tables.shoppers[shopper],
            application=APPLICATION,
            surface=SURFACE,
            history_source="caller",
            latency=StageLatency(),
        )

    def _events(
        self,
        record: SearchRecord,
        rows: np.ndarray,
        ranks: np.ndarray,
        attraction: np.ndarray,
        random: np.random.Generator,
    ) -> tuple[list[Document], list[str]]:
        shown = self._plan.shown
        seen = attraction[:shown]
        clicked = self._clicks.clicks(seen, random)
        carts = self._clicks.carts(seen, clicked, random)
        bought = self._clicks.purchases(carts, random)
        events: list[Document] = []
        for place in range(seen.size):
            done = [
                name
                for name, flags in zip(_ACTIONS, (clicked, carts, bought), strict=True)
                if flags[place]
            ]
            if self._plan.impressions:
                done.insert(0, "impression")
            events += [
                self._event(record, action, place, int(ranks[place]), rows[place])
                for action in done
            ]
        return events, [record.shown_ids[place] for place in np.flatnonzero(bought).tolist()]

    def _event(
        self, record: SearchRecord, action: str, place: int, retrieval_rank: int, row: int
    ) -> Document:
        tables = self._shoppers.tables
        page = SeenPage(
            record.query_id, record.shopper, record.query, record.variant, record.bundle_id
        )
        product = SeenProduct(
            record.shown_ids[place],
            tables.categories[row],
            tables.brands[row],
            place,
            retrieval_rank,
        )
        after = timedelta(seconds=_SECONDS_AFTER[action] + place / 100)
        return event_document(page, product, action, record.started + after)


def chosen_arm(
    shopper: str, arms: Mapping[str, tuple[float, PageOrder]], seed: int
) -> tuple[str, PageOrder]:
    """Return the arm of a shopper, always the same for the same arms: by a hash, in [0, 1)."""
    name = chosen_name(shopper, {name: share for name, (share, _) in arms.items()}, seed)
    return name, arms[name][1]


def chosen_name(shopper: str, shares: Mapping[str, float], seed: int) -> str:
    """Return the name that a shopper's hash falls on, each with its share of the shoppers."""
    digest = hashlib.blake2b(f"{seed}:{shopper}".encode(), digest_size=8).digest()
    point = int.from_bytes(digest) / 2**64 * sum(shares.values())
    for name, share in shares.items():
        point -= share
        if point < 0:
            return name
    return list(shares)[-1]


def days_from(first: datetime, count: int) -> Iterator[datetime]:
    """Yield midnights (UTC) of `count` days."""
    midnight = first.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for number in range(count):
        yield midnight + timedelta(days=number)


def _of_arm(record: SearchRecord, variant: str, bundle_id: str) -> SearchRecord:
    return replace(record, variant=variant, bundle_id=bundle_id)


def _ubi_query(document: Document, teams: Sequence[int]) -> Document:
    known = (
        "@timestamp", "timestamp", "application", "query_id", "client_id", "user_query",
        "object_id_field", "query_response_hit_ids", "query_attributes",
    )  # fmt: skip
    fields = json.loads(document.body)
    kept = {name: fields[name] for name in known if name in fields}
    if teams:
        kept["query_attributes"] = {**kept["query_attributes"], "teams": "".join(map(str, teams))}
    return document_of(kept)


def page_ndcg(attraction: np.ndarray) -> float:
    """Return NDCG@10 of a whole page, given the attractions in the order shown."""
    if not attraction.size:
        return float("nan")
    scores = -np.arange(attraction.size, dtype=np.float64)
    return float(ndcg_at_k(attraction, scores, np.array([0, attraction.size]), 10)[0])

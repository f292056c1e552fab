"""What the demo's shop knows at one moment: products, shoppers, sales, promotions, the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from deploy.demo.errors import ShopError, UnknownShopperError
from deploy.demo.promotions import PlacePromotions, read_promotions, week_of
from deploy.demo.retrieval.catalogue import CatalogueProduct, PlaceTable
from deploy.demo.sales import chain_sales, place_table
from deploy.demo.titles import product_title
from rerank_server.contract.errors import nearest
from rerank_server.contract.page import SECONDS_PER_DAY, Rows
from rerank_server.page import MAX_EVENTS, ShopperHistory
from trainer.encoding.dataset import Prepared, read_prepared
from trainer.logs.complete_journey import package_folder

WEEK = 7 * SECONDS_PER_DAY
HALF_LIFE_DAYS = 60.0
TOP_CATEGORIES = 3


@dataclass(frozen=True, slots=True)
class ShopProduct:
    """One product as the page shows it.

    Attributes:
        id: The catalogue's id.
        title: Readable type, without the size.
        size: Package size, for example `20 oz`.
        brand: `private` or `national`.
        maker: Number of the manufacturer, the only name there is.
        category: Task category.
    """

    id: str
    title: str
    size: str | None
    brand: str | None
    maker: str | None
    category: str


@dataclass(frozen=True, slots=True)
class Shopper:
    """What is known of a shopper before `now`.

    Attributes:
        id: The log's id.
        place: Where they bought most often; None when they never bought.
        baskets: How many times they bought.
        events: How many products, repeats counted.
        top_categories: The categories bought most, with their share of the events.
        next_requests: How many searches of the log they make in the week after `now`.
    """

    id: str
    place: str | None
    baskets: int
    events: int
    top_categories: tuple[tuple[str, float], ...]
    next_requests: int


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A search of the log and what its basket held.

    Attributes:
        shopper: Shopper id.
        place: Where; None when unknown.
        time: Unix seconds.
        query: What was searched for.
        category: Task category that the search is about.
        bought: Ids of the products of the basket that answer it.
    """

    shopper: str
    place: str | None
    time: int
    query: str
    category: str | None
    bought: frozenset[str]


@dataclass(frozen=True, slots=True)
class PastProduct:
    """How often a shopper bought a product before `now`, and how long ago the last time was."""

    times: int
    last_days: int


class Shop:
    """A prepared log seen from `now`: nothing later is known but to `bought_next`."""

    def __init__(
        self, prepared: Prepared, now: int, promotions: Mapping[str, PlacePromotions]
    ) -> None:
        """Count sales up to the day of `now`; `promotions` are those of its week by place.

        Raises:
            ShopError: `now` lies before the first purchase.
        """
        self.now = now
        self.prepared = prepared
        self.promotions = promotions
        self.records: list[dict[str, Any]] = prepared.products()
        self.row_of = {record["id"]: row for row, record in enumerate(self.records)}
        self._shopper_of = {name: index for index, name in enumerate(prepared.shoppers)}
        first_day = int(prepared.interaction_times.min()) // SECONDS_PER_DAY
        if now // SECONDS_PER_DAY <= first_day:
            raise ShopError(
                f"now: got {now}, want a time after the log's first day, "
                f"{first_day * SECONDS_PER_DAY}"
            )
        self._sales = chain_sales(prepared, now)

    @classmethod
    def open(cls, prepared_path: Path, now: int) -> Self:
        """The shop of a prepared folder at `now` (Unix seconds).

        Raises:
            PreparedError: The folder is incomplete.
            CatalogueError: The log's promotions cannot be read.
            ShopError: `now` lies before the first purchase.
        """
        prepared = read_prepared(prepared_path)
        promotions: Mapping[str, PlacePromotions] = {}
        config = prepared.manifest.get("config", {})
        if config.get("adapter") == "complete_journey":
            folder = Path(config.get("folder") or package_folder())
            promotions = read_promotions(
                folder / "promotions.parquet",
                week_of(now),
                product_ids=[record["id"] for record in prepared.products()],
                places=prepared.places,
            )
        return cls(prepared, now, promotions)

    # Products

    def category_index(self, category: str) -> int:
        """The place of a category among the log's, from 0; -1 for one it does not know."""
        names = self.prepared.categories
        return names.index(category) if category in names else -1

    def product(self, id_: str) -> ShopProduct:
        """The product of that id.

        Raises:
            ShopError: There is none.
        """
        row = self.row_of.get(id_)
        if row is None:
            raise ShopError(f"product: got {id_!r}, want one of {len(self.records)} known ids")
        record = self.records[row]
        text = str(record["text"])
        brand = next((kind for kind in ("private", "national") if f"{kind} brand" in text), None)
        maker = record["brand"]
        return ShopProduct(
            id=id_,
            title=product_title(record["category_path"][-1]),
            size=record["size"],
            brand=brand,
            maker=maker.removeprefix("manufacturer ") if maker else None,
            category=record["category"],
        )

    def catalogue_products(self) -> Iterator[CatalogueProduct]:
        """The catalogue in row order, with sales up to the day of `now`."""
        for record, sales in zip(self.records, self._sales.tolist(), strict=True):
            yield CatalogueProduct(
                id=record["id"],
                text=record["text"],
                category=record["category"],
                category_path=tuple(record["category_path"]),
                brand=record["brand"],
                sales_28d=sales[0],
                sales_56d=sales[1],
                sales_91d=sales[2],
            )

    def place_table(self) -> PlaceTable:
        """What each place sold in 28 and 91 days before `now`, and promotes in its week."""
        return place_table(self.prepared, self.now, self.promotions)

    # Shoppers

    def shoppers(self) -> list[Shopper]:
        """All shoppers with an event before `now`, in the order of the log."""
        return [self.shopper(name) for name in self.prepared.shoppers if self._events(name)[1]]

    def shopper(self, shopper_id: str) -> Shopper:
        """One shopper's profile.

        Raises:
            UnknownShopperError: There is none of that id.
        """
        start, count = self._events(shopper_id)
        part = slice(start, start + count)
        categories = Counter(self.prepared.product_categories[self._rows[part]].tolist())
        top = [
            (self.prepared.categories[code - 1], number / count)
            for code, number in categories.most_common()
            if code > 0
        ]
        places = Counter(self._places[part].tolist())
        place = next((code for code, _ in places.most_common() if code >= 0), None)
        return Shopper(
            id=shopper_id,
            place=None if place is None else self.prepared.places[place],
            baskets=int(np.unique(self._times[part]).size),
            events=count,
            top_categories=tuple(top[:TOP_CATEGORIES]),
            next_requests=len(self._next_requests.get(shopper_id, ())),
        )

    def history(self, shopper_id: str, before: int | None = None) -> ShopperHistory:
        """The shopper's newest 4,096 events before a time (`now` unless given), for the wire.

        Raises:
            UnknownShopperError: There is none of that id.
        """
        start, count = self._events(shopper_id, before)
        part = slice(max(start, start + count - MAX_EVENTS), start + count)
        places = self.prepared.places
        return ShopperHistory(
            product_ids=[self.records[row]["id"] for row in self._rows[part].tolist()],
            times=np.asarray(self._times[part]),
            places=[places[code] if code >= 0 else "" for code in self._places[part].tolist()],
            discounted=(self.prepared.interaction_discounts[part] > 0).tolist(),
        )

    def own_products(self, shopper_id: str, before: int | None = None) -> list[str]:
        """Past products, the most telling first: purchases weighted by 0.5^(age / 60 days).

        Raises:
            UnknownShopperError: There is none of that id.
        """
        start, count = self._events(shopper_id, before)
        part = slice(start, start + count)
        ages = ((self.now if before is None else before) - self._times[part]) / SECONDS_PER_DAY
        rows, inverse = np.unique(self._rows[part], return_inverse=True)
        weights = np.bincount(inverse, 0.5 ** (ages / HALF_LIFE_DAYS), len(rows))
        order = np.argsort(-weights, kind="stable")
        return [self.records[row]["id"] for row in rows[order].tolist()]

    def past_products(self, shopper_id: str) -> dict[str, PastProduct]:
        """What the shopper bought before `now`, by product id.

        Raises:
            UnknownShopperError: There is none of that id.
        """
        start, count = self._events(shopper_id)
        past: dict[str, PastProduct] = {}
        part = slice(start, start + count)
        pairs = zip(self._rows[part].tolist(), self._times[part].tolist(), strict=True)
        for row, time in pairs:
            id_ = self.records[row]["id"]
            times = past[id_].times if id_ in past else 0
            past[id_] = PastProduct(times + 1, (self.now - time) // SECONDS_PER_DAY)
        return past

    def usual_queries(self, shopper_id: str, limit: int) -> list[str]:
        """The searches that the shopper's past purchases answer most often.

        Raises:
            UnknownShopperError: There is none of that id.
        """
        start, count = self._events(shopper_id)
        paths = (self.records[r]["category_path"] for r in self._rows[start : start + count])
        known = set(self.prepared.queries)
        counts = Counter(path[-1] for path in paths if path[-1] in known)
        return [query for query, _ in counts.most_common(limit)]

    # What comes after `now`

    def bought_next(self, shopper_id: str) -> frozenset[str]:
        """What the shopper really bought in the seven days from `now`.

        Raises:
            UnknownShopperError: There is none of that id.
        """
        start, before = self._events(shopper_id)
        _, until = self._events(shopper_id, self.now + WEEK)
        rows = self._rows[start + before : start + until].tolist()
        return frozenset(self.records[row]["id"] for row in rows)

    def next_requests(self, shopper_id: str) -> tuple[SearchRequest, ...]:
        """The shopper's searches in the seven days from `now`, each with something bought."""
        return self._next_requests.get(shopper_id, ())

    @cached_property
    def _next_requests(self) -> dict[str, tuple[SearchRequest, ...]]:
        found: dict[str, tuple[SearchRequest, ...]] = {}
        for request in self.requests_between(self.now, self.now + WEEK):
            found[request.shopper] = (*found.get(request.shopper, ()), request)
        return found

    def requests_between(self, start: int, end: int) -> Iterator[SearchRequest]:
        """The log's searches with `start` <= time < `end` that were answered, by time."""
        prepared = self.prepared
        first, last = np.searchsorted(prepared.page_times, [start, end]).tolist()
        for page in range(first, last):
            query = int(prepared.page_queries[page])
            bought = self._bought_on(page) if query >= 0 else frozenset()
            if not bought:
                continue
            place, category = int(prepared.page_places[page]), int(prepared.page_categories[page])
            yield SearchRequest(
                shopper=prepared.shoppers[int(prepared.page_shoppers[page])],
                place=prepared.places[place] if place >= 0 else None,
                time=int(prepared.page_times[page]),
                query=prepared.queries[query],
                category=prepared.categories[category - 1] if category else None,
                bought=bought,
            )

    def _bought_on(self, page: int) -> frozenset[str]:
        """What the page's basket holds of its query, reached by the log's retrieval or not."""
        prepared = self.prepared
        part = prepared.page(page)
        labelled = prepared.candidate_rows[part][prepared.candidate_labels[part, 0] > 0]
        shopper, time = int(prepared.page_shoppers[page]), int(prepared.page_times[page])
        begin, end = prepared.shopper_offsets[shopper : shopper + 2].tolist()
        basket = slice(*(begin + np.searchsorted(self._times[begin:end], [time, time + 1])))
        query = prepared.queries[int(prepared.page_queries[page])]
        category = int(prepared.page_categories[page])
        matching = {
            row
            for row in self._rows[basket].tolist()
            if query in self.records[row]["category_path"][-2:]
            and category in (0, int(prepared.product_categories[row]))
        }
        return frozenset(self.records[row]["id"] for row in matching | set(labelled.tolist()))

    @property
    def _rows(self) -> Rows:
        return self.prepared.interaction_rows

    @property
    def _times(self) -> np.ndarray:
        return self.prepared.interaction_times

    @property
    def _places(self) -> Rows:
        return self.prepared.interaction_places

    def _events(self, shopper_id: str, before: int | None = None) -> tuple[int, int]:
        """First interaction of a shopper, and how many lie before a time."""
        index = self._shopper_of.get(shopper_id)
        if index is None:
            raise UnknownShopperError(
                f"shopper: got {shopper_id[:40]!r}, want one of {len(self._shopper_of)} known "
                f"shoppers{nearest(shopper_id, self._shopper_of)}"
            )
        start, end = self.prepared.shopper_offsets[index : index + 2].tolist()
        limit = self.now if before is None else before
        return start, int(np.searchsorted(self._times[start:end], limit))

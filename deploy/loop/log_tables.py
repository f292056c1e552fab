"""The trainer's four log tables, grown a day at a time from the streams.

In the learning folder: `days/2018-01-02.json` says of each day read whether it was taken or
refused and why, `days/<day>-searches.jsonl` and `-events.jsonl` hold what was taken. The newest
day said of is the watermark, and `days/<day>.finished` says that all that follows from a taken day
was done: a run that was stopped before goes on with that day, else after it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from deploy.loop.errors import LearningError
from deploy.loop.propensity import Examination
from deploy.loop.search_log import CART, CLICK, PURCHASE, LoggedSearch
from deploy.loop.shop_tables import INTERACTIONS_FILE, PRODUCTS_FILE, read_lines, write_lines
from rerank_server.access_log import hash_shopper
from trainer.atomic_text import write_text

KINDS = (CLICK, CART, PURCHASE)
_SEARCHES, _EVENTS = "searches.jsonl", "events.jsonl"
_VALIDATION_SHARE = 0.15
_FEWEST_DAYS, _FEWEST_CLICKED = 2, 8

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DayVerdict:
    """What became of one day of the streams.

    Attributes:
        day: ISO date.
        taken: Whether its searches are in the tables.
        reasons: Why not, each in a sentence.
        searches: How many were read.
        events: Alike.
    """

    day: str
    taken: bool
    reasons: tuple[str, ...]
    searches: int
    events: int


class LogTables:
    """The tables in one folder."""

    def __init__(self, folder: Path, shop: Path, shopper_key: bytes | None = None) -> None:
        """Open or begin the tables.

        Args:
            folder: The learning folder.
            shop: Holds catalogue and past purchases as `shop_tables` says.
            shopper_key: Hashes the purchases' shoppers as the gateway's telemetry hashes them;
                None where the streams call shoppers as the purchases do.
        """
        self._days = folder / "days"
        self._shopper_key = shopper_key
        self._folder = folder
        self._shop = shop

    def verdicts(self) -> list[DayVerdict]:
        """Return what was said of every day, oldest first."""
        found = []
        for path in sorted(self._days.glob("????-??-??.json")):
            values = json.loads(path.read_text(encoding="utf-8"))
            found.append(DayVerdict(**{**values, "reasons": tuple(values["reasons"])}))
        return found

    def watermark(self) -> date | None:
        """Return the newest day that was read; None before the first."""
        verdicts = self.verdicts()
        return date.fromisoformat(verdicts[-1].day) if verdicts else None

    def add(
        self, day: date, searches: Sequence[LoggedSearch], reasons: Sequence[str]
    ) -> DayVerdict:
        """Take a day in, or with `reasons` note that it was refused; whole or not at all."""
        events = [_event(search, each) for search in searches for each in search.events]
        if not reasons:
            self._days.mkdir(parents=True, exist_ok=True)
            write_lines(self._days / f"{day}-{_SEARCHES}", [_search(each) for each in searches])
            write_lines(self._days / f"{day}-{_EVENTS}", events)
        verdict = DayVerdict(
            day.isoformat(), not reasons, tuple(reasons), len(searches), len(events)
        )
        # last: only now the day counts as read
        write_text(self._days / f"{day}.json", json.dumps(asdict(verdict), indent=1))
        return verdict

    def finish(self, day: date) -> None:
        """Note that a day's round has come to its end."""
        self._days.mkdir(parents=True, exist_ok=True)
        write_text(self._days / f"{day}.finished", "")

    def is_finished(self, day: date) -> bool:
        """Whether nothing is left to do of a day that was read."""
        verdict = next((each for each in self.verdicts() if each.day == day.isoformat()), None)
        if verdict is None:
            return False
        return not verdict.taken or (self._days / f"{day}.finished").exists()

    def taken_days(self) -> list[date]:
        """Return the days in the tables, oldest first."""
        return [date.fromisoformat(each.day) for each in self.verdicts() if each.taken]

    def purchases(self) -> Iterator[tuple[str, str, int]]:
        """Yield shopper, product and time (Unix seconds) of all purchases that are known."""
        for row in self._interactions():
            yield str(row["shopper"]), str(row["product"]), int(row["time"])

    def write_training_log(
        self,
        folder: Path,
        days: Sequence[date],
        examination: Examination | None,
        seed: int,
        newest_start: datetime | None = None,
        signals: Sequence[str] = (),
    ) -> Path:
        """Write the tables of the given days as a log that the trainer prepares.

        The newest day is the log's test split, so that the bundle is as of its morning; of the
        days before, the last share of the time validates and the rest trains. With an examination
        curve, pages are those of `weighted_pages`.

        Args:
            folder: Where the log goes.
            days: Oldest first.
            examination: The curve; None takes clicks as they are.
            seed: Of the copies of pages.
            newest_start: When the newest day begins; midnight UTC unless given.
            signals: Further ones of the network that training starts from; missing here.

        Returns:
            The log's TOML file.

        Raises:
            LearningError: When there are too few days or clicks.
        """
        if len(days) < _FEWEST_DAYS:
            raise LearningError(f"days: got {len(days)}, want at least {_FEWEST_DAYS}")
        searches, events = self._rows(days, _SEARCHES), self._rows(days, _EVENTS)
        if examination is not None:
            searches, events = weighted_pages(searches, events, examination, seed)
        midnight = datetime.combine(days[-1], datetime.min.time(), UTC)
        newest = int((newest_start or midnight).timestamp())
        times = sorted(int(each["time"]) for each in searches if each["clicked"])
        before = [time for time in times if time < newest]
        if len(before) < _FEWEST_CLICKED or before == times:
            raise LearningError(
                f"pages with a click: got {len(before)} before {days[-1]} and"
                f" {len(times) - len(before)} on it, want at least {_FEWEST_CLICKED} and 1"
            )
        validation = before[int(len(before) * (1 - _VALIDATION_SHARE))]
        folder.mkdir(parents=True, exist_ok=True)
        products = read_lines(self._shop / PRODUCTS_FILE)
        write_lines(folder / PRODUCTS_FILE, products)
        write_lines(folder / INTERACTIONS_FILE, self._interactions())
        write_lines(folder / _SEARCHES, searches)
        write_lines(folder / _EVENTS, events)
        path = folder / "log.toml"
        sized = any(each.get("size") for each in products)
        begin = int(searches[0]["time"])
        text = _toml(begin, validation, newest, sized=sized)
        if signals:
            text += f"further_signals = {json.dumps(list(signals))}\n"
        write_text(path, text)
        return path

    def _interactions(self) -> list[Json]:
        """Return the purchases of the shop's own log and those of the days that were taken."""
        rows = read_lines(self._shop / INTERACTIONS_FILE)
        key = self._shopper_key
        if key is not None:
            rows = [{**row, "shopper": hash_shopper(str(row["shopper"]), key)} for row in rows]
        return rows + self._bought()

    def _bought(self) -> list[Json]:
        return [
            {"shopper": each["shopper"], "product": each["product"], "time": each["time"]}
            for each in self._rows(self.taken_days(), _EVENTS)
            if each["kind"] == PURCHASE and each["shopper"]
        ]

    def _rows(self, days: Sequence[date], table: str) -> list[Json]:
        return [row for day in days for row in read_lines(self._days / f"{day}-{table}")]


def weighted_pages(
    searches: Sequence[Json], events: Sequence[Json], examination: Examination, seed: int
) -> tuple[list[Json], list[Json]]:
    """Return pages of one click each, as often as the click's weight says, and their events.

    The listwise loss summed over such pages is, in expectation, the loss of the clicks weighted
    by inverse propensity. Weights are divided by their mean, so that there are as many pages as
    clicks: a weight of 2.3 gives two pages, and a third with probability 0.3. The other clicked
    products of a page are left out of its copies, for they are no negatives.
    """
    clicks, own = _clicks(searches, events)
    if not clicks:
        return [], []
    weights = np.array(
        [examination.weight(search["places"][product]) for search, product in clicks]
    )
    weights /= weights.mean()
    copies = np.floor(weights + np.random.default_rng(seed).random(weights.size)).astype(int)
    pages, kept = [], []
    for (search, product), count in zip(clicks, copies.tolist(), strict=True):
        others = {each["product"] for each in own[search["query_id"]]} - {product}
        stay = [rank for rank, each in enumerate(search["candidates"]) if each not in others]
        page = {
            **search,
            "clicked": 1,
            "candidates": [search["candidates"][rank] for rank in stay],
            "scores": [search["scores"][rank] for rank in stay] if search["scores"] else [],
        }
        for copy in range(count):
            query_id = f"{search['query_id']}#{product}#{copy}"
            pages.append({**page, "query_id": query_id})
            kept += [
                {**event, "query_id": query_id}
                for event in own[search["query_id"]]
                if event["product"] == product
            ]
    return pages, kept


def _clicks(
    searches: Sequence[Json], events: Sequence[Json]
) -> tuple[list[tuple[Json, str]], dict[str, list[Json]]]:
    """Return each clicked product of a page that showed it, and the events by query id."""
    own: dict[str, list[Json]] = {}
    for event in events:
        own.setdefault(str(event["query_id"]), []).append(event)
    clicks = []
    for search in searches:
        acted = own.get(str(search["query_id"]), [])
        products = dict.fromkeys(each["product"] for each in acted if each["kind"] == CLICK)
        clicks += [(search, product) for product in products if product in search["places"]]
    return clicks, own


def _search(search: LoggedSearch) -> Json:
    """Return a page of the trainer's table: what was shown, in retrieval order."""
    places = {product: place for place, product in enumerate(search.shown_ids, start=1)}
    scored = len(search.retrieval_scores) == len(search.retrieved_ids)
    candidates, scores = [], []
    for rank, product in enumerate(search.retrieved_ids or search.shown_ids):
        if product in places:
            candidates.append(product)
            if scored and search.retrieved_ids:
                scores.append(search.retrieval_scores[rank])
    return {
        "query_id": search.query_id,
        "text": search.query,
        "shopper": search.shopper,
        "time": int(search.time.timestamp()),
        "candidates": candidates,
        "scores": scores,
        "places": places,
        "clicked": len(search.products_of(CLICK)),
    }


def _event(search: LoggedSearch, event: Any) -> Json:  # noqa: ANN401 - a ShopperEvent
    return {
        "query_id": search.query_id,
        "shopper": search.shopper,
        "product": event.product_id,
        "time": int(event.time.timestamp()),
        "kind": event.action,
    }


def _toml(train: int, validation: int, test: int, *, sized: bool) -> str:
    moments = [datetime.fromtimestamp(each, UTC).isoformat() for each in (train, validation, test)]
    names = ("train_from", "validation_from", "test_from")
    lines = ['adapter = "tables"', "allow_single_category = true"]
    lines += [f"{name} = {moment}" for name, moment in zip(names, moments, strict=True)]
    lines += [
        f'products_file = "{PRODUCTS_FILE}"',
        'products_brand = "brand"',
        *(['products_size = "size"'] if sized else []),
        f'searches_file = "{_SEARCHES}"',
        'searches_scores = "scores"',
        f'events_file = "{_EVENTS}"',
        f'interactions_file = "{INTERACTIONS_FILE}"',
        f"event_kinds = {json.dumps(KINDS)}",
    ]
    return "".join(f"{line}\n" for line in lines)

"""Training pages that stand for clicks weighted by the inverse of their place's propensity.

With `position_bias = "em"` in a log's TOML file, the examination of each place is fitted on the
training searches, whose candidates are in the order shown, and each training page with clicks
becomes pages of one click each, as often as the click's weight says. The loss summed over them is,
in expectation, the loss of the clicks weighted by inverse propensity (Joachims, Swaminathan and
Schnabel 2017, eq. 5). Pages without a click, and those of validation and test, stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import narwhals as nw
import numpy as np

from trainer.encoding.pageset import Doubles
from trainer.errors import LogConfigError
from trainer.evaluation.position_bias import (
    Impressions,
    PositionModel,
    copies_of_clicks,
    effective_sample_size,
    fit_examination,
    inverse_propensity_weights,
)
from trainer.logs.log import Frame, Log
from trainer.logs.log_config import LogConfig

NONE, EM = "none", "em"


@dataclass(frozen=True, slots=True)
class ClickWeights:
    """What was estimated and made of it.

    Attributes:
        examination: Of each place, the first is 1.
        clicks: Clicks on training pages.
        effective_clicks: As many clicks of equal weight vary as much.
        clipped: Clicks whose weight was clipped.
        pages: Training pages with a click before, and copies of them after.
    """

    examination: tuple[float, ...]
    clicks: int
    effective_clicks: float
    clipped: int
    pages: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "examination": [round(value, 4) for value in self.examination],
            "clicks": self.clicks,
            "effective_clicks": round(self.effective_clicks, 1),
            "clipped": self.clipped,
            "pages": list(self.pages),
        }


def with_click_weights(log: Log, config: LogConfig) -> tuple[Log, ClickWeights | None]:
    """Return the log with weighted training pages, and what was estimated; as it is for `none`.

    Raises:
        LogConfigError: When there is no search log to estimate from.
        PositionBiasError: When no training page has a click.
    """
    if config.position_bias == NONE:
        return log, None
    if log.searches is None or log.events is None:
        raise LogConfigError(
            f"position_bias: got {config.position_bias!r} without searches_file and events_file,"
            " want both or none"
        )
    start, stop, _ = config.split_times
    times = log.searches["time"].to_numpy()
    training = (times >= start) & (times < stop)
    pages = _rows(log.searches, training)
    own = _events_of(log.events, {page["query_id"] for page in pages})
    kind = config.event_kinds[0]
    clicked = {
        name: [each["product"] for each in events if each["kind"] == kind]
        for name, events in own.items()
    }
    fitted = _fit(pages, clicked, config.position_bias_places)
    clicks = _clicks_of(pages, clicked)
    places = np.array([place for _, _, place in clicks], np.int64)
    weights = inverse_propensity_weights(fitted.examination, places, config.position_bias_clip)
    copied, events = _copies(clicks, own, weights, config.seed)
    with_click = {page["query_id"] for page, _, _ in clicks}
    unclicked = [page for page in pages if page["query_id"] not in with_click]
    searches = _with_rows(log.searches, ~training, [*unclicked, *copied])
    kept = np.array([name not in with_click for name in log.events["query_id"].to_list()])
    told = ClickWeights(
        examination=tuple(fitted.examination.tolist()),
        clicks=weights.size,
        effective_clicks=effective_sample_size(weights),
        clipped=int((weights >= config.position_bias_clip).sum()),
        pages=(len(with_click), len(copied)),
    )
    return replace(log, searches=searches, events=_with_rows(log.events, kept, events)), told


def _fit(
    pages: Sequence[Mapping[str, Any]], clicked: Mapping[str, list[str]], places: int
) -> PositionModel:
    codes: dict[tuple[str, str], int] = {}
    pair, place, flags = [], [], []
    for page in pages:
        own = set(clicked.get(page["query_id"], ()))
        for at, product in enumerate(page["candidates"][:places]):
            pair.append(codes.setdefault((page["text"], product), len(codes)))
            place.append(at)
            flags.append(product in own)
    impressions = Impressions(
        np.array(pair, np.int64), np.array(place, np.int64), np.array(flags, np.bool_)
    )
    return fit_examination(impressions, places)


def _clicks_of(
    pages: Sequence[dict[str, Any]], clicked: Mapping[str, list[str]]
) -> list[tuple[dict[str, Any], str, int]]:
    """Return page, product and place of every clicked product, each once."""
    found: list[tuple[dict[str, Any], str, int]] = []
    for page in pages:
        places = {product: at for at, product in reversed(list(enumerate(page["candidates"])))}
        found += [
            (page, product, places[product])
            for product in dict.fromkeys(clicked.get(page["query_id"], ()))
            if product in places
        ]
    return found


def _copies(
    clicks: Sequence[tuple[dict[str, Any], str, int]],
    own: Mapping[str, list[dict[str, Any]]],
    weights: Doubles,
    seed: int,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return pages of one click each, as often as its weight says, and their events.

    Products with another event, a click or a cart, are left out of a copy: they are no negatives.
    """
    pages, events = [], []
    for (page, product, _), count in zip(
        clicks, copies_of_clicks(weights, seed).tolist(), strict=True
    ):
        name, scores = page["query_id"], page["scores"]
        others = {event["product"] for event in own[name]} - {product}
        stay = [at for at, each in enumerate(page["candidates"]) if each not in others]
        fitting = scores is not None and len(scores) == len(page["candidates"])
        left = {
            **page,
            "candidates": [page["candidates"][at] for at in stay],
            "scores": [scores[at] for at in stay] if fitting else None,
        }
        for copy in range(count):
            copied = f"{name}#{product}#{copy}"
            pages.append({**left, "query_id": copied})
            events += [
                {**event, "query_id": copied} for event in own[name] if event["product"] == product
            ]
    return pages, events


def _events_of(events: Frame, names: set[str]) -> dict[str, list[dict[str, Any]]]:
    own: dict[str, list[dict[str, Any]]] = {}
    for event in events.rows(named=True):
        if event["query_id"] in names:
            own.setdefault(event["query_id"], []).append(dict(event))
    return own


def _rows(frame: Frame, chosen: np.ndarray) -> list[dict[str, Any]]:
    return [dict(row) for row in frame.filter(chosen.tolist()).rows(named=True)]


def _with_rows(frame: Frame, kept: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> Frame:
    """Return the kept rows of a frame with further ones, in its own types."""
    stay = frame.filter(kept.tolist())
    if not rows:
        return stay
    columns = {name: [row[name] for row in rows] for name in frame.columns}
    added = nw.from_dict(columns, schema=frame.schema, backend=frame.implementation)
    return nw.concat([stay, added])

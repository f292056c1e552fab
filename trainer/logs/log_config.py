"""Which files and columns make up a shop's log, and how pages are cut from it: one TOML file."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from rerank_server.contract.errors import nearest
from trainer.errors import LogConfigError
from trainer.logs.labels import BASKET_LABELS, Label, contradictions, kind_labels
from trainer.logs.vector_sources import VectorSource, parse_vector_sources
from trainer.toml_tables import read_tables

Adapter = Literal["tables", "complete_journey"]
TimeFormat = Literal["seconds", "milliseconds", "microseconds", "days", "iso"]
PositionBias = Literal["none", "em"]


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Settings of the data preparation, flat as in the TOML file.

    Attributes:
        adapter: Where the tables come from: mapped files, or the Complete Journey package.
        folder: Folder of the files, relative to the TOML file; empty: its own folder, or for
            Complete Journey the installed package's.
        train_from: Start of the training pages; what is earlier is history only.
        validation_from: Start of the validation pages.
        test_from: Start of the test pages.
        allow_single_category: Accept a log of one category, where no transfer can be learned.
        seed: Seed of every draw.
        products_file: Catalogue; empty: products are what the interactions name.
        searches_file: Search log; empty where the shop has none.
        events_file: What shoppers did with the pages of the search log.
        interactions_file: Purchases or ratings.
        time_format: Unit of the times, or `iso` for text such as 2017-06-26T04:00:00Z.
        event_kinds: Kinds of events that count as objectives, in order.
        objective: What else shoppers do that can be learned, `[[objective]]` tables; see
            `trainer.logs.labels.Label`. They follow the event kinds, or the objectives of baskets.
        further_signals: Signals of candidates that this log lacks: missing in all pages, so that
            a run on it can start from the weights of one that has them.
        vector: Vectors of products that something else made, `[[vector]]` tables; see
            `trainer.logs.vector_sources.VectorSource`.
        text_encoder: `static`, or an ONNX sentence encoder for all texts of the log.
        text_tokenizer: Its `tokenizer.json`; empty: the one beside it.
        text_max_tokens: Tokens of a text that a sentence encoder reads at most.
        reviews_file: Ratings of products with their texts; what was known when training begins is
            learned from.
        reviews_low: Ratings up to this one are low.
        position_bias: `em` weights the clicks of training pages by the inverse propensity of their
            place, fitted on these pages; their candidates must be in the order shown.
        position_bias_clip: Largest such weight.
        position_bias_places: Places whose propensity is fitted; beyond, the clip is taken.
        interaction_kinds: Kinds of interactions that count; empty: all.
        minimum_strength: Interactions of a smaller strength do not count.
        category_separator: Between the names of a category path, where it is text.
        category_level: Level of the path that is the task category, from 0.
        promotion_places_only: Complete Journey: keep the stores with promotion records only.
        chain_window_days: Days of sales anywhere that the retrieval score counts.
        chain_recent_days: A product on sale was sold anywhere within these days, or at the place
            within `place_window_days`.
        place_window_days: Days of sales at the place that the retrieval score counts.
        decay_days: Half-life of the shopper's own past.
        search_popular: Most candidates of a search by popularity.
        search_own: Most candidates of a search from the shopper's own past.
        search_min_candidates: Smaller search pages are left out: there is nothing to rank.
        promotion_popular: Most candidates of a promotion page by popularity.
        promotion_own: Most candidates of a promotion page from the shopper's own past.
        promotion_affinity: Most candidates of a promotion page by the shopper's taste.
        home_popular: Most candidates of a home page by popularity.
        home_own: Most candidates of a home page from the shopper's own past.
        home_together: Most candidates of a home page bought together with recent ones.
        home_by_category: Make a page per category the shopper took from that day, not one of all.
        search_pages: Most searches retrieved for train, validation and test.
        promotion_pages: Most promotion pages, alike.
        home_pages: Most home pages, alike.
    """

    adapter: Adapter
    train_from: datetime
    validation_from: datetime
    test_from: datetime
    folder: str = ""
    allow_single_category: bool = False
    seed: int = 7

    products_file: str = ""
    products_id: str = "id"
    products_category_path: str = "category_path"
    products_text: tuple[str, ...] = ("title",)
    products_brand: str = ""
    products_size: str = ""

    searches_file: str = ""
    searches_query_id: str = "query_id"
    searches_text: str = "text"
    searches_shopper: str = "shopper"
    searches_time: str = "time"
    searches_candidates: str = "candidates"
    searches_scores: str = ""

    events_file: str = ""
    events_query_id: str = "query_id"
    events_shopper: str = "shopper"
    events_product: str = "product"
    events_time: str = "time"
    events_kind: str = "kind"
    event_kinds: tuple[str, ...] = ("click", "cart", "purchase")
    position_bias: PositionBias = "none"
    position_bias_clip: float = 10.0
    position_bias_places: int = 50
    objective: tuple[Label, ...] = ()
    further_signals: tuple[str, ...] = ()

    interactions_file: str = ""
    interactions_shopper: str = "shopper"
    interactions_product: str = "product"
    interactions_time: str = "time"
    interactions_strength: str = ""
    interactions_kind: str = ""
    interactions_place: str = ""
    interactions_quantity: str = ""
    interactions_price: str = ""
    interactions_discount: str = ""
    interactions_category: str = ""
    interaction_kinds: tuple[str, ...] = ()
    minimum_strength: float = 0.0

    vector: tuple[VectorSource, ...] = ()
    text_encoder: str = "static"
    text_tokenizer: str = ""
    text_max_tokens: int = 128

    reviews_file: str = ""
    reviews_product: str = "product"
    reviews_rating: str = "rating"
    reviews_text: str = ""
    reviews_time: str = "time"
    reviews_low: float = 2.0

    time_format: TimeFormat = "seconds"
    category_separator: str = ">"
    category_level: int = 0

    promotion_places_only: bool = True
    chain_window_days: int = 56
    chain_recent_days: int = 28
    place_window_days: int = 91
    decay_days: float = 60.0
    search_popular: int = 100
    search_own: int = 30
    search_min_candidates: int = 10
    promotion_popular: int = 100
    promotion_own: int = 50
    promotion_affinity: int = 160
    home_popular: int = 100
    home_own: int = 30
    home_together: int = 50
    home_by_category: bool = False
    search_pages: tuple[int, ...] = (90_000, 8_300, 24_200)
    promotion_pages: tuple[int, ...] = (12_000, 1_500, 4_000)
    home_pages: tuple[int, ...] = (20_000, 4_000, 8_000)

    @property
    def split_times(self) -> tuple[int, int, int]:
        """Unix seconds at which train, validation and test begin."""
        moments = (self.train_from, self.validation_from, self.test_from)
        first, second, third = (int(moment.timestamp()) for moment in moments)
        return first, second, third

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        values = dataclasses.asdict(self)
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in values.items()
            # logs without any keep their fingerprint
            if name not in _ADDED or value != _ADDED[name]
        }

    @property
    def labels(self) -> tuple[Label, ...]:
        """Every label of the log's pages, in the order of its columns."""
        own = kind_labels(self.event_kinds) if self.searches_file else BASKET_LABELS
        return (*own, *self.objective)

    @property
    def kept_event_kinds(self) -> tuple[str, ...]:
        """The kinds of events that some label reads; what else happened is passed over."""
        further = [label.kind for label in self.objective if label.kind]
        return tuple(dict.fromkeys([*self.event_kinds, *further]))

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns that `[[objective]]` tables name, each once."""
        return tuple(dict.fromkeys(label.column for label in self.objective if label.column))


def read_log_config(path: Path) -> LogConfig:
    """Read and check a log configuration.

    Raises:
        LogConfigError: The file is missing or not TOML, a key is unknown or missing, or a value
            is of the wrong type or out of range. All findings are named at once.
    """
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except FileNotFoundError as error:
        raise LogConfigError(f"log config: got no file {path}, want one") from error
    except tomllib.TOMLDecodeError as error:
        raise LogConfigError(f"log config: got {path.name} that is not TOML: {error}") from error
    return parse_log_config(values)


def parse_log_config(values: dict[str, Any]) -> LogConfig:
    """Return the configuration of TOML values.

    Raises:
        LogConfigError: As `read_log_config`.
    """
    hints = get_type_hints(LogConfig)
    fields = {field.name: field for field in dataclasses.fields(LogConfig)}
    findings = [
        f"{key}: got an unknown key{nearest(key, fields)}" for key in values if key not in fields
    ]
    findings += [
        f"{name}: got no value, want one"
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and name not in values
    ]
    checked: dict[str, Any] = {}
    if "objective" in values:
        checked["objective"], wrong = read_tables(
            Label, values["objective"], "objective", contradictions=contradictions, start=Label
        )
        findings += wrong
    if "vector" in values:
        try:
            checked["vector"] = parse_vector_sources(values["vector"])
        except LogConfigError as error:
            findings.append(str(error))
    for key, value in values.items():
        if key in fields and key not in {"objective", "vector"}:
            try:
                checked[key] = _check_value(key, value, hints[key])
            except LogConfigError as error:
                findings.append(str(error))
    if findings:
        raise LogConfigError("log config: " + "; ".join(findings))
    config = LogConfig(**checked)
    _check_ranges(config)
    return config


def _check_value(key: str, value: Any, hint: Any) -> Any:  # noqa: ANN401
    """Return the value as the field has it; refuse another type."""
    choices = get_args(hint)
    if choices and isinstance(choices[0], str):
        if value not in choices:
            raise LogConfigError(
                f"{key}: got {value!r}, want one of {', '.join(choices)}"
                f"{nearest(str(value), choices)}"
            )
        return value
    if choices:
        item = choices[0]
        if not isinstance(value, list) or any(type(v) is not item for v in value):
            raise LogConfigError(f"{key}: got {value!r}, want a list of {item.__name__}")
        return tuple(value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise LogConfigError(f"{key}: got {value!r}, want {hint.__name__}")
    return value


def _check_ranges(config: LogConfig) -> None:
    moments = (config.train_from, config.validation_from, config.test_from)
    if any(moment.tzinfo is None for moment in moments):
        raise LogConfigError("train_from, validation_from, test_from: got no UTC offset, want one")
    if not moments[0] < moments[1] < moments[2]:
        raise LogConfigError(
            "train_from, validation_from, test_from: got "
            f"{', '.join(moment.isoformat() for moment in moments)}, want ascending times"
        )
    for name in ("search_pages", "promotion_pages", "home_pages"):
        limits = getattr(config, name)
        if len(limits) != len(moments) or min(limits) < 0:
            raise LogConfigError(f"{name}: got {list(limits)}, want three counts >= 0")
    for name in ("chain_window_days", "chain_recent_days", "place_window_days", "decay_days"):
        if getattr(config, name) <= 0:
            raise LogConfigError(f"{name}: got {getattr(config, name)}, want more than 0")
    if config.adapter == "tables" and not config.interactions_file and not config.searches_file:
        raise LogConfigError(
            "interactions_file, searches_file: got neither, want a table to learn from"
        )
    _check_objectives(config)
    _check_texts(config)
    _check_position_bias(config)
    if bool(config.searches_file) != bool(config.events_file):
        raise LogConfigError("searches_file, events_file: got one of them, want both or none")


def _check_objectives(config: LogConfig) -> None:
    names = [label.name for label in config.labels]
    for label in config.objective:
        if names.count(label.name) > 1:
            raise LogConfigError(
                f"objective {label.name!r}: got it beside one of that name that the log has by "
                f"itself, want another name than {', '.join(names[: -len(config.objective)])}"
            )
        if label.first_time and config.searches_file:
            raise LogConfigError(
                f"objective {label.name!r}: got first_time in a log with searches, want none: the "
                "network sees what was bought before"
            )


def _check_position_bias(config: LogConfig) -> None:
    if config.position_bias != "none" and not config.searches_file:
        raise LogConfigError(
            f"position_bias: got {config.position_bias!r} without a search log, want searches_file"
        )
    if not 1 <= config.position_bias_clip < math.inf:
        raise LogConfigError(f"position_bias_clip: got {config.position_bias_clip}, want 1 or more")
    if config.position_bias_places < 1:
        raise LogConfigError(
            f"position_bias_places: got {config.position_bias_places}, want 1 or more"
        )


def _check_texts(config: LogConfig) -> None:
    if not 1 <= config.text_max_tokens <= _MOST_TOKENS:
        raise LogConfigError(
            f"text_max_tokens: got {config.text_max_tokens}, want 1 to {_MOST_TOKENS}"
        )
    if not config.text_encoder:
        raise LogConfigError("text_encoder: got an empty name, want static or an ONNX file")
    if config.text_tokenizer and config.text_encoder == "static":
        raise LogConfigError(
            f"text_tokenizer: got {config.text_tokenizer!r} with text_encoder 'static', want the"
            " ONNX file it belongs to"
        )


_MOST_TOKENS = 8192
# Settings that older configurations lack, as these have them.
_ADDED: dict[str, Any] = {
    field.name: field.default
    for field in dataclasses.fields(LogConfig)
    if field.name in {"further_signals", "objective", "vector"}
    or field.name.startswith(("text_", "reviews_", "position_bias"))
}

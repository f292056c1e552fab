"""A shop's own tables, by the column names of its configuration, as a log."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import narwhals as nw

from trainer.errors import DuplicateIdError, LogColumnError
from trainer.logs.clean import CleaningReport, Reason, TableCleaning, drop_duplicates, drop_rows
from trainer.logs.labels import value_column
from trainer.logs.log import Frame, Log
from trainer.logs.log_checks import (
    check_categories,
    check_finite,
    check_not_empty,
    check_product_ids,
    to_unix_seconds,
)
from trainer.logs.log_config import LogConfig
from trainer.logs.log_files import check_columns, collect_table, scan_table

DUPLICATE_ROWS = "row repeated"
SINGLE_CATEGORY = "all"
# The shopper of searches that name none: one without a past.
ANONYMOUS = ""
# Between the ids of a candidate list that is text.
LIST_SEPARATOR = ","


def table_files(config: LogConfig, folder: Path) -> dict[str, Path]:
    """Return the configured file of each table that the log has."""
    named = {
        "products": config.products_file,
        "searches": config.searches_file,
        "events": config.events_file,
        "interactions": config.interactions_file,
    }
    return {table: folder / name for table, name in named.items() if name}


def read_tables(config: LogConfig, folder: Path, *, now: int) -> Log:
    """Return the cleaned log of the configured files.

    Args:
        config: File and column names.
        folder: What file names are relative to.
        now: Unix seconds; later times are errors.

    Raises:
        LogError: A file, column, time, id or number is wrong; see the children.
    """
    frames = {
        table: _read_table(config, table, path, now)
        for table, path in table_files(config, folder).items()
    }
    cleanings: list[TableCleaning] = []
    actions = frames.get("interactions")
    if actions is None:
        actions = _events_as_interactions(frames["events"])
    if "products" in frames:
        products, cleaning = _clean_products(config, frames["products"])
        cleanings.append(cleaning)
    else:
        products = _products_of(config, actions)
    check_product_ids(products)
    check_categories(products, allow_single=config.allow_single_category)
    interactions, cleaning = _clean_interactions(config, actions, products)
    cleanings.append(cleaning)
    events = searches = None
    if "searches" in frames:
        searches, cleaning = _clean_searches(frames["searches"])
        cleanings.append(cleaning)
        events, cleaning = _clean_events(config, frames["events"], products)
        cleanings.append(cleaning)
    return Log(products, interactions, None, searches, events, CleaningReport(tuple(cleanings)))


def _columns_of(config: LogConfig, table: str) -> dict[str, str]:
    """Return our name -> the file's name of every configured column of a table."""
    names = {
        "products": ("id", "category_path", "brand", "size"),
        "searches": ("query_id", "text", "shopper", "time", "candidates", "scores"),
        "events": ("query_id", "shopper", "product", "time", "kind"),
        "interactions": (
            "shopper", "product", "time", "strength", "kind", "place", "quantity", "price",
            "discount", "category",
        ),
    }  # fmt: skip
    mapped = {name: getattr(config, f"{table}_{name}") for name in names[table]}
    if table == _labelled_table(config):
        mapped |= {value_column(column): column for column in config.label_columns}
    return {name: column for name, column in mapped.items() if column}


def _labelled_table(config: LogConfig) -> str:
    """Return the table whose rows make labels."""
    return "events" if config.searches_file else "interactions"


def _number_columns(config: LogConfig, table: str) -> list[str]:
    """Return our names of the configured columns of a table that hold numbers."""
    numbers = ("strength", "quantity", "price", "discount")
    labels = tuple(value_column(column) for column in config.label_columns)
    return [name for name in _columns_of(config, table) if name in (*numbers, *labels)]


def _read_table(config: LogConfig, table: str, path: Path, now: int) -> Frame:
    """Read one file, check it, and give its columns our names."""
    lazy = scan_table(path, table)
    mapped = _columns_of(config, table)
    text = config.products_text if table == "products" else ()
    check_columns(lazy, table, (*mapped.values(), *text))
    schema = lazy.collect_schema()
    expressions = [
        nw.col(column).cast(nw.String()).alias(name)
        if name in ("id", "shopper", "product", "query_id", "place", "kind", "brand", "size")
        else nw.col(column).alias(name)
        for name, column in mapped.items()
    ]
    if text:
        words = [nw.col(column).cast(nw.String()) for column in text]
        expressions.append(nw.concat_str(words, separator=" ", ignore_nulls=True).alias("text"))
    numbers = _number_columns(config, table)
    for name in numbers:
        if not schema[mapped[name]].is_numeric():
            raise LogColumnError(
                f"{table}.{mapped[name]}: got values of type {schema[mapped[name]]}, want numbers"
            )
    frame = collect_table(lazy.select(*expressions), table)
    check_not_empty(frame, table, when=f"in {path.name}")
    check_finite(frame, table, numbers)
    if "time" in mapped:
        frame = to_unix_seconds(frame, table, "time", config.time_format, now=now)
    return frame


def _clean_products(config: LogConfig, frame: Frame) -> tuple[Frame, TableCleaning]:
    path = _as_list(frame, "category_path", config.category_separator)
    level = nw.col("category_path").list.get(config.category_level)
    missing = [name for name in ("brand", "size") if name not in frame.columns]
    described = (
        frame.with_columns(path)
        .with_columns(category=nw.when(_long_enough(config)).then(level))
        .with_columns(nw.lit(None, dtype=nw.String()).alias(name) for name in missing)
    )
    reasons: list[Reason] = [
        ("no id", nw.col("id").is_null()),
        ("no category at the configured level", nw.col("category").is_null()),
    ]
    kept, cleaning = drop_rows("products", described.lazy(), reasons)
    ordered = kept.select("id", "text", "category", "category_path", "brand", "size")
    cleaned, cleaning = drop_duplicates(ordered, cleaning, DUPLICATE_ROWS)
    check_not_empty(cleaned, "products", when="after cleaning")
    return cleaned, cleaning


def _long_enough(config: LogConfig) -> nw.Expr:
    return nw.col("category_path").list.len() > config.category_level


def _as_list(frame: Frame, column: str, separator: str) -> nw.Expr:
    """Return the column as a list of names; text is split and its names stripped."""
    if frame.schema[column] == nw.List:
        return nw.col(column)
    text = nw.col(column).cast(nw.String()).str.strip_chars()
    spaced = text.str.replace_all(f" *{re.escape(separator.strip())} *", separator.strip())
    return spaced.str.split(separator.strip()).alias(column)


def _products_of(config: LogConfig, actions: Frame) -> Frame:
    """Return a bare catalogue: what the interactions name."""
    category = nw.lit(SINGLE_CATEGORY)
    if config.interactions_category and "category" in actions.columns:
        category = nw.col("category").cast(nw.String())
    none = nw.lit(None, dtype=nw.String())
    known = actions.filter(~nw.col("product").is_null()).with_columns(category=category)
    return (
        known.filter(~nw.col("category").is_null())
        .select("product", "category")
        .unique()
        .select(
            id=nw.col("product"),
            text=nw.concat_str(nw.col("category"), nw.lit(" "), nw.col("product")),
            category=nw.col("category"),
            category_path=nw.col("category").str.split("\x1f"),
            brand=none,
            size=none,
        )
    )


def _events_as_interactions(events: Frame) -> Frame:
    """Return the events as the shopper's past."""
    return events.drop("query_id", *_value_columns(events))


def _value_columns(frame: Frame) -> list[str]:
    """Return the columns of a table that labels read, by our names."""
    return [name for name in frame.columns if name.startswith(value_column(""))]


def _clean_interactions(
    config: LogConfig, frame: Frame, products: Frame
) -> tuple[Frame, TableCleaning]:
    known = products.select(nw.col("id").alias("product"), nw.lit(1).alias("known"))
    joined = frame.lazy().join(known.lazy(), on="product", how="left")
    reasons: list[Reason] = [
        ("no shopper", nw.col("shopper").is_null()),
        ("no product", nw.col("product").is_null()),
        ("no time", nw.col("time").is_null()),
        ("product not in the catalogue", nw.col("known").is_null()),
    ]
    columns = frame.columns
    if "kind" in columns and config.interaction_kinds:
        counted = nw.col("kind").is_in(config.interaction_kinds)
        reasons.append(("kind that does not count", ~counted | nw.col("kind").is_null()))
    if "strength" in columns:
        weak = nw.col("strength") < config.minimum_strength
        reasons.append(("strength too small", weak | nw.col("strength").is_null()))
    if "quantity" in columns:
        reasons.append(("quantity 0", nw.col("quantity") <= 0))
    kept, cleaning = drop_rows("interactions", joined, reasons)
    kept, cleaning = drop_duplicates(kept, cleaning, DUPLICATE_ROWS)
    check_not_empty(kept, "interactions", when="after cleaning")
    return (
        kept.select(
            shopper=nw.col("shopper"),
            product=nw.col("product"),
            place=_optional(columns, "place", None, nw.String()),
            time=nw.col("time"),
            period=nw.lit(-1, dtype=nw.Int32()),
            quantity=_optional(columns, "quantity", 1.0, nw.Float32()),
            price=_optional(columns, "price", float("nan"), nw.Float32()),
            discount=_optional(columns, "discount", 0.0, nw.Float32()),
            **{name: nw.col(name).cast(nw.Float64()) for name in _value_columns(frame)},
            **({"kind": nw.col("kind")} if _kinds_are_labels(config, columns) else {}),
        ),
        cleaning,
    )


def _kinds_are_labels(config: LogConfig, columns: list[str]) -> bool:
    """Return whether labels of baskets ask for the kind of an interaction.

    Raises:
        LogColumnError: They do, and no column has it.
    """
    asked = next((label for label in config.objective if label.kind), None)
    if config.searches_file or asked is None:
        return False
    if "kind" not in columns:
        raise LogColumnError(
            f"interactions_kind: got no column, want one: objective {asked.name!r} asks for kind "
            f"{asked.kind!r}"
        )
    return True


def _optional(columns: list[str], name: str, missing: float | None, dtype: Any) -> nw.Expr:  # noqa: ANN401
    """Return the column, or what stands for it where the log has none."""
    if name not in columns:
        return nw.lit(missing, dtype=dtype)
    column = nw.col(name).cast(dtype)
    return column if missing is None else column.fill_null(missing)


def _clean_searches(frame: Frame) -> tuple[Frame, TableCleaning]:
    listed = frame.with_columns(_as_list(frame, "candidates", LIST_SEPARATOR))
    if "scores" not in listed.columns:
        listed = listed.with_columns(scores=nw.lit(None, dtype=nw.List(nw.Float64())))
    reasons: list[Reason] = [
        ("no query id", nw.col("query_id").is_null()),
        ("no time", nw.col("time").is_null()),
        ("no candidates", nw.col("candidates").list.len().fill_null(0) == 0),
    ]
    kept, cleaning = drop_rows("searches", listed.lazy(), reasons)
    check_not_empty(kept, "searches", when="after cleaning")
    ids = kept["query_id"]
    if ids.n_unique() < len(ids):
        raise DuplicateIdError(
            f"searches: got {len(ids) - ids.n_unique()} repeated query ids, want one row per id"
        )
    named = kept.with_columns(nw.col("shopper").fill_null(ANONYMOUS))
    return named.select("query_id", "text", "shopper", "time", "candidates", "scores"), cleaning


def _clean_events(config: LogConfig, frame: Frame, products: Frame) -> tuple[Frame, TableCleaning]:
    known = products.select(nw.col("id").alias("product"), nw.lit(1).alias("known"))
    joined = frame.lazy().join(known.lazy(), on="product", how="left")
    reasons: list[Reason] = [
        ("no query id", nw.col("query_id").is_null()),
        ("product not in the catalogue", nw.col("known").is_null()),
        ("kind that does not count", ~nw.col("kind").is_in(config.kept_event_kinds)),
        ("no time", nw.col("time").is_null()),
    ]
    kept, cleaning = drop_rows("events", joined, reasons)
    if config.objective:  # a repeated row adds nothing to a label of 0 or 1, but to a sum it does
        kept, cleaning = drop_duplicates(kept, cleaning, DUPLICATE_ROWS)
    names = ("query_id", "shopper", "product", "time", "kind", *_value_columns(frame))
    return kept.select(*names), cleaning

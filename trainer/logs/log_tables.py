"""A shop's own tables, by the column names of its configuration, as a log."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import narwhals as nw

from trainer.errors import DuplicateIdError, LogColumnError
from trainer.logs.clean import CleaningReport, Reason, TableCleaning, drop_duplicates, drop_rows
from trainer.logs.engine import LINE, POLARS, Engine, Frame, Lines, count_lines, in_file_order
from trainer.logs.labels import value_column
from trainer.logs.log import Log
from trainer.logs.log_checks import (
    check_categories,
    check_finite,
    check_not_empty,
    check_product_ids,
    to_unix_seconds,
)
from trainer.logs.log_config import LogConfig
from trainer.logs.log_files import check_columns, scan_table

DUPLICATE_ROWS = "row repeated"
SINGLE_CATEGORY = "all"
# The shopper of searches that name none: one without a past.
ANONYMOUS = ""
# Between the ids of a candidate list that is text.
LIST_SEPARATOR = ","
# What has no type but text in a log.
NAMES = ("id", "shopper", "product", "query_id", "place", "kind", "brand", "size")
# Unicode's white space, named one by one: what "all white space" is, each engine knows for itself.
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def table_files(config: LogConfig, folder: Path) -> dict[str, Path]:
    """Return the configured file of each table that the log has."""
    named = {
        "products": config.products_file,
        "searches": config.searches_file,
        "events": config.events_file,
        "interactions": config.interactions_file,
    }
    return {table: folder / name for table, name in named.items() if name}


def read_tables(config: LogConfig, folder: Path, *, now: int, engine: Engine = POLARS) -> Log:
    """Return the cleaned log of the configured files.

    Args:
        config: File and column names.
        folder: What file names are relative to.
        now: Unix seconds; later times are errors.
        engine: What computes the tables that grow with the log.

    Raises:
        LogError: A file, column, time, id or number is wrong; see the children.
    """
    tables = {
        table: _read_table(config, table, path, now, POLARS if table == "products" else engine)
        for table, path in table_files(config, folder).items()
    }
    cleanings: list[TableCleaning] = []
    actions = tables.get("interactions")
    if actions is None:
        actions = _events_as_interactions(tables["events"])
    if "products" in tables:
        products, cleaning = _clean_products(config, tables["products"])
        cleanings.append(cleaning)
    else:
        products = _products_of(config, actions, engine)
    check_product_ids(products)
    check_categories(products, allow_single=config.allow_single_category)
    known = _lend_known(products, engine)
    interactions, cleaning = _clean_interactions(config, actions, known, engine)
    cleanings.append(cleaning)
    events = searches = None
    if "searches" in tables:
        searches, cleaning = _clean_searches(tables["searches"], engine)
        cleanings.append(cleaning)
        events, cleaning = _clean_events(config, tables["events"], known, engine)
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


def _read_table(config: LogConfig, table: str, path: Path, now: int, engine: Engine) -> Lines:
    """Read one file, check it, and give its columns our names."""
    file = scan_table(path, table)  # whoever computes, Polars says what types the columns have
    mapped = _columns_of(config, table)
    text = config.products_text if table == "products" else ()
    check_columns(file, table, (*mapped.values(), *text))
    schema = file.collect_schema()
    for name in NAMES:
        if name in mapped:
            engine.check_names(schema[mapped[name]], f"{table}.{mapped[name]}")
    expressions = [
        nw.col(column).cast(nw.String()).alias(name)
        if name in NAMES
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
    scanned = engine.scan(path, table, (*mapped.values(), *text))
    lines = engine.keep(scanned.select(LINE, *expressions), table)
    check_not_empty(count_lines(lines, table, engine), table, when=f"in {path.name}")
    check_finite(lines, table, numbers, engine)
    if "time" in mapped:
        dtype = schema[mapped["time"]]
        lines = to_unix_seconds(
            lines, table, "time", config.time_format, dtype=dtype, now=now, engine=engine
        )
    return lines


def _clean_products(config: LogConfig, lines: Lines) -> tuple[Frame, TableCleaning]:
    path = _as_list(lines, "category_path", config.category_separator)
    level = nw.col("category_path").list.get(config.category_level)
    columns = lines.collect_schema().names()
    missing = [name for name in ("brand", "size") if name not in columns]
    described = (
        lines.with_columns(path)
        .with_columns(category=nw.when(_long_enough(config)).then(level))
        .with_columns(nw.lit(None, dtype=nw.String()).alias(name) for name in missing)
    )
    reasons: list[Reason] = [
        ("no id", nw.col("id").is_null()),
        ("no category at the configured level", nw.col("category").is_null()),
    ]
    kept, cleaning = drop_rows("products", described, reasons)
    ordered = kept.select(LINE, "id", "text", "category", "category_path", "brand", "size")
    distinct, cleaning = drop_duplicates(ordered, cleaning, DUPLICATE_ROWS)
    check_not_empty(cleaning.rows_out, "products", when="after cleaning")
    return in_file_order(distinct, "products", POLARS), cleaning


def _long_enough(config: LogConfig) -> nw.Expr:
    return nw.col("category_path").list.len() > config.category_level


def _as_list(lines: Lines, column: str, separator: str) -> nw.Expr:
    """Return the column as a list of names; text is split and its names stripped."""
    if lines.collect_schema()[column] == nw.List:
        return nw.col(column)
    text = nw.col(column).cast(nw.String()).str.strip_chars(WHITE_SPACE)
    spaced = text.str.replace_all(f" *{re.escape(separator.strip())} *", separator.strip())
    return spaced.str.split(separator.strip()).alias(column)


def _products_of(config: LogConfig, actions: Lines, engine: Engine) -> Frame:
    """Return a bare catalogue: what the interactions name."""
    category = nw.lit(SINGLE_CATEGORY)
    if config.interactions_category and "category" in actions.collect_schema().names():
        category = nw.col("category").cast(nw.String())
    none = nw.lit(None, dtype=nw.String())
    named = actions.select("product", category=category)
    known = named.filter(~nw.col("product").is_null() & ~nw.col("category").is_null())
    # counted because a grouping, unlike `unique`, is added up before Spark moves a line
    pairs = known.group_by("product", "category").agg(nw.len().alias("lines"))
    return (
        engine.collect(pairs, "interactions")
        .sort("product", "category")
        .select(
            id=nw.col("product"),
            text=nw.concat_str(nw.col("category"), nw.lit(" "), nw.col("product")),
            category=nw.col("category"),
            category_path=nw.col("category").str.split("\x1f"),
            brand=none,
            size=none,
        )
    )


def _lend_known(products: Frame, engine: Engine) -> Lines:
    """Return the ids of the catalogue, to mark with them what it knows."""
    ids = products.select(nw.col("id").alias("product"), nw.lit(1).alias("known"))
    return engine.lend(ids, "products")


def _events_as_interactions(events: Lines) -> Lines:
    """Return the events as the shopper's past."""
    return events.drop("query_id", *_value_columns(events))


def _value_columns(lines: Lines) -> list[str]:
    """Return the columns of a table that labels read, by our names."""
    return [name for name in lines.collect_schema().names() if name.startswith(value_column(""))]


def _clean_interactions(
    config: LogConfig, lines: Lines, known: Lines, engine: Engine
) -> tuple[Frame, TableCleaning]:
    joined = lines.join(known, on="product", how="left")
    reasons: list[Reason] = [
        ("no shopper", nw.col("shopper").is_null()),
        ("no product", nw.col("product").is_null()),
        ("no time", nw.col("time").is_null()),
        ("product not in the catalogue", nw.col("known").is_null()),
    ]
    columns = lines.collect_schema().names()
    if "kind" in columns and config.interaction_kinds:
        counted = nw.col("kind").is_in(config.interaction_kinds)
        reasons.append(("kind that does not count", ~counted | nw.col("kind").is_null()))
    if "strength" in columns:
        weak = nw.col("strength") < config.minimum_strength
        reasons.append(("strength too small", weak | nw.col("strength").is_null()))
    if "quantity" in columns:
        reasons.append(("quantity 0", nw.col("quantity") <= 0))
    kept, cleaning = drop_rows("interactions", joined, reasons, engine)
    kept, cleaning = drop_duplicates(kept, cleaning, DUPLICATE_ROWS, engine)
    check_not_empty(cleaning.rows_out, "interactions", when="after cleaning")
    made = kept.select(
        nw.col(LINE),
        shopper=nw.col("shopper"),
        product=nw.col("product"),
        place=_optional(columns, "place", None, nw.String()),
        time=nw.col("time"),
        period=nw.lit(-1, dtype=nw.Int32()),
        quantity=_optional(columns, "quantity", 1.0, nw.Float32()),
        price=_optional(columns, "price", float("nan"), nw.Float32()),
        discount=_optional(columns, "discount", 0.0, nw.Float32()),
        **{name: nw.col(name).cast(nw.Float64()) for name in _value_columns(lines)},
        **({"kind": nw.col("kind")} if _kinds_are_labels(config, columns) else {}),
    )
    return in_file_order(made, "interactions", engine), cleaning


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
    # cast again: where a number of double precision is filled in, Spark widens the column
    return column if missing is None else column.fill_null(missing).cast(dtype)


def _clean_searches(lines: Lines, engine: Engine) -> tuple[Frame, TableCleaning]:
    listed = lines.with_columns(_as_list(lines, "candidates", LIST_SEPARATOR))
    reasons: list[Reason] = [
        ("no query id", nw.col("query_id").is_null()),
        ("no time", nw.col("time").is_null()),
        ("no candidates", nw.col("candidates").list.len().fill_null(0) == 0),
    ]
    kept, cleaning = drop_rows("searches", listed, reasons, engine)
    check_not_empty(cleaning.rows_out, "searches", when="after cleaning")
    repeated = kept.group_by("query_id").agg(nw.len().alias("rows")).filter(nw.col("rows") > 1)
    more = engine.collect_few(repeated.select((nw.col("rows") - 1).sum()), "searches").item()
    if more:
        raise DuplicateIdError(f"searches: got {more} repeated query ids, want one row per id")
    named = kept.with_columns(nw.col("shopper").fill_null(ANONYMOUS))
    searches = in_file_order(named, "searches", engine)
    if "scores" not in searches.columns:
        searches = searches.with_columns(scores=nw.lit(None, dtype=nw.List(nw.Float64())))
    return searches.select("query_id", "text", "shopper", "time", "candidates", "scores"), cleaning


def _clean_events(
    config: LogConfig, lines: Lines, known: Lines, engine: Engine
) -> tuple[Frame, TableCleaning]:
    joined = lines.join(known, on="product", how="left")
    reasons: list[Reason] = [
        ("no query id", nw.col("query_id").is_null()),
        ("product not in the catalogue", nw.col("known").is_null()),
        ("kind that does not count", ~nw.col("kind").is_in(config.kept_event_kinds)),
        ("no time", nw.col("time").is_null()),
    ]
    kept, cleaning = drop_rows("events", joined, reasons, engine)
    if config.objective:  # a repeated row adds nothing to a label of 0 or 1, but to a sum it does
        kept, cleaning = drop_duplicates(kept, cleaning, DUPLICATE_ROWS, engine)
    made = kept.select(
        LINE, "query_id", "shopper", "product", "time", "kind",
        *[nw.col(name).cast(nw.Float64()) for name in _value_columns(lines)],
    )  # fmt: skip
    return in_file_order(made, "events", engine), cleaning

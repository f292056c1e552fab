"""From a shop's log to a prepared folder of pages; done once per content."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.encoding.text_files import STATIC, TextVectorMaker, encoder_files
from trainer.errors import EmptyTableError, LogFileError
from trainer.evaluation.click_weights import with_click_weights
from trainer.logs.complete_journey import package_folder, read_complete_journey, source_files
from trainer.logs.engine import POLARS, Engine
from trainer.logs.labels import BASKET_LABELS, Label
from trainer.logs.log import Log
from trainer.logs.log_arrays import LogArrays, encode_log
from trainer.logs.log_config import LogConfig, read_log_config
from trainer.logs.log_tables import read_tables, table_files
from trainer.logs.named_vectors import write_vectors
from trainer.logs.page_builder import PageBuilder, signal_names
from trainer.logs.pages import SOURCES, SPLITS, Pages, Requests, concatenate_requests
from trainer.logs.prepared_files import (
    FORMAT_VERSION,
    MANIFEST,
    folder_written_whole,
    write_json,
    write_log,
    write_pages,
)
from trainer.logs.promotions import PromotionArrays, encode_promotions
from trainer.logs.query_log import logged_pages
from trainer.logs.recall import page_figures
from trainer.logs.retrieval import PromotionRetrieval, Retrieval, SearchRetrieval
from trainer.logs.reviews import read_reviews, write_reviews
from trainer.logs.searches import (
    HOME,
    PROMOTION,
    SEARCH,
    SURFACES,
    find_baskets,
    list_queries,
    promotion_requests,
    search_requests,
)
from trainer.logs.slots import HomeRetrieval, fit_together, home_requests
from trainer.training.memory_forecast import Limit, check_memory, preparation_forecast

# Raise it whenever the same input would give other output.
PREPARATION_VERSION = 2


def prepare(
    config_path: Path,
    out_dir: Path,
    *,
    progress: bool,
    limit: Limit | None = None,
    spark_master: str = "",
) -> Path:
    """Prepare the log that `config_path` describes and return the folder.

    The folder's name holds a hash of the settings, the input files and this code's version; when
    it is there already, it is returned as it is. What would hold more memory than `limit` is
    refused before it begins. With `spark_master`, such as `local[2]`, the tables that grow with
    the log are read and cleaned on Spark; the rows are those that Polars gives, so the folder is
    the same.

    Raises:
        LogConfigError: The configuration is wrong.
        LogError: The log is.
        SparkError: Spark is asked for and not there.
        MemoryForecastError: It would not fit into memory.
    """
    config = read_log_config(config_path)
    folder = _input_folder(config, config_path)
    hashes = {path.name: hash_file(path) for path in _input_files(config, folder)}
    further = _further_files(config, further_folder(config, config_path))
    hashes |= {what: hash_file(path) for what, path in further.items()}
    fingerprint = _fingerprint(config, hashes)
    target = out_dir / f"prepared-{fingerprint[:16]}"
    if (target / MANIFEST).is_file():
        return target
    check_memory(preparation_forecast(_input_files(config, folder)), limit)
    now = int(time.time())
    with _opened(spark_master, out_dir) as engine:
        log, weights = with_click_weights(_read_log(config, folder, now=now, engine=engine), config)
        arrays = encode_log(log)
        with folder_written_whole(target) as partial:
            # first, since what is wrong with them is told before the pages take their time
            vectors, maker = _write_vectors(partial, config, further_folder(config, config_path),
                                            arrays, now=now, progress=progress)  # fmt: skip
            built = build_pages(log, arrays, config, progress=progress)
            write_log(partial, arrays)
            write_pages(partial, built.pages, built.queries)
            manifest = _manifest(config, log, arrays, built) | {"vectors": vectors}
            manifest |= {"fingerprint": fingerprint, "sources": hashes}
            manifest |= {"position_bias": weights.to_json()} if weights is not None else {}
            if maker is not None:
                products = [record["text"] for record in arrays.products.records]
                text = maker.write(partial, products, built.queries, arrays.products.categories)
                manifest |= {} if text is None else {"text": text}
            write_json(partial / MANIFEST, manifest)
    return target


@contextmanager
def _opened(spark_master: str, folder: Path) -> Iterator[Engine]:
    """Yield what computes the large tables."""
    if not spark_master:
        yield POLARS
        return
    from trainer.logs.spark_engine import open_spark  # noqa: PLC0415  only where it is asked for

    with open_spark(spark_master, folder) as engine:
        yield engine


def _write_vectors(
    target: Path, config: LogConfig, folder: Path, arrays: LogArrays, *, now: int, progress: bool
) -> tuple[list[dict[str, Any]], TextVectorMaker | None]:
    """Write named vectors and those of reviews; return their entries and what encodes texts."""
    ids = [record["id"] for record in arrays.products.records]
    vectors = write_vectors(target, config.vector, folder, ids)
    if config.text_encoder == STATIC and not config.reviews_file:
        return vectors, None
    maker = TextVectorMaker(config, folder, progress=progress)
    if config.reviews_file:
        reviews = read_reviews(config, folder, ids, now=now)
        vectors += write_reviews(
            target, reviews, config.split_times, len(ids), maker.vectors, low=config.reviews_low
        )
    return vectors, maker


def further_folder(config: LogConfig, config_path: Path) -> Path:
    """Return what names of vector, review and encoder files are relative to."""
    folder = config_path.parent
    return folder if config.adapter == "complete_journey" else _input_folder(config, config_path)


def _further_files(config: LogConfig, folder: Path) -> dict[str, Path]:
    """Return every file besides the tables that the configuration names."""
    files = {f"vector {source.name}": folder / source.file for source in config.vector}
    files |= {
        f"ids of vector {source.name}": folder / source.ids
        for source in config.vector
        if source.ids
    }
    if config.reviews_file:
        files["reviews"] = folder / config.reviews_file
    if config.text_encoder != STATIC:
        model, tokenizer = encoder_files(config, folder)
        files |= {"text_encoder": model, "text_tokenizer": tokenizer}
    for what, path in files.items():
        if not path.is_file():
            raise LogFileError(f"{what}: got no file {path}, want one")
    return files


def _read_log(config: LogConfig, folder: Path, *, now: int, engine: Engine) -> Log:
    if config.adapter == "complete_journey":
        return read_complete_journey(
            folder,
            promotion_places_only=config.promotion_places_only,
            now=now,
            engine=engine,
        )
    return read_tables(config, folder, now=now, engine=engine)


def _manifest(config: LogConfig, log: Log, arrays: LogArrays, built: BuiltPages) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "preparation_version": PREPARATION_VERSION,
        "config": config.to_json(),
        "signals": list(built.signals),
        "objectives": [label.name for label in built.labels],
        "labels": [asdict(label) for label in built.labels],
        "surfaces": list(SURFACES),
        "splits": list(SPLITS),
        "candidate_sources": list(SOURCES),
        "cleaning": log.report.to_json(),
        "counts": {
            "products": arrays.products.count,
            "categories": len(arrays.products.categories),
            "shoppers": len(arrays.interactions.shoppers),
            "places": len(arrays.interactions.places),
            "interactions": arrays.interactions.count,
            "queries": len(built.queries),
            "pages": built.pages.count,
            "candidates": len(built.pages.row),
        },
        "pages": built.figures,
    }


@dataclass(frozen=True, slots=True)
class BuiltPages:
    """The pages of a log, and what there is to say about them.

    Attributes:
        pages: Pages worth keeping.
        queries: Query texts.
        signals: Names of the signal columns.
        labels: What the label columns are.
        figures: Counts and candidate recall per surface and split.
    """

    pages: Pages
    queries: list[str]
    signals: tuple[str, ...]
    labels: tuple[Label, ...]
    figures: dict[str, Any]


def build_pages(log: Log, arrays: LogArrays, config: LogConfig, *, progress: bool) -> BuiltPages:
    """Return the pages of a log: those its searches show, else those its baskets stand for.

    A log with promotions gets searches and promotion pages, a plain one home pages.

    Raises:
        EmptyTableError: No page is left.
    """
    signals = signal_names(promotions=log.promotions is not None)
    if log.searches is not None and log.events is not None:
        shown, queries = logged_pages(log.searches, log.events, arrays, config)
        pages, figures = select_pages(shown, smallest_search=1)
        signals += config.further_signals
        return BuiltPages(pages, queries, signals, config.labels, figures)
    queries, requests, retrievals, promotions = _plan(log, arrays, config)
    if not requests.count:
        raise EmptyTableError("pages: got 0 after train_from, want 1 or more")
    builder = PageBuilder(arrays.interactions, arrays.products.count, promotions, config)
    built = builder.build(requests, retrievals, progress=progress)
    pages, figures = select_pages(built, smallest_search=config.search_min_candidates)
    labels = config.labels
    if not (arrays.interactions.discount > 0).any():  # a shop without discounts has none to predict
        discount = next(label for label in BASKET_LABELS if label.column == "discount")
        columns = [index for index, label in enumerate(labels) if label != discount]
        labels = tuple(labels[column] for column in columns)
        pages = replace(pages, labels=pages.labels[:, columns])
    return BuiltPages(pages, queries, signals, labels, figures)


def _plan(
    log: Log, arrays: LogArrays, config: LogConfig
) -> tuple[list[str], Requests, dict[int, Retrieval], PromotionArrays | None]:
    """Return the queries, the requests, and how each of their surfaces finds candidates."""
    interactions, products = arrays.interactions, arrays.products
    if log.promotions is None:
        days = find_baskets(interactions, config, by_day=True)
        together = tuple(
            fit_together(interactions, products.count, moment // SECONDS_PER_DAY)
            for moment in config.split_times
        )
        home = HomeRetrieval(interactions, products.category, together, config)
        return [], home_requests(interactions, products, days, config), {HOME: home}, None
    baskets = find_baskets(interactions, config)
    catalogue = list_queries(products)
    periods = np.unique(interactions.period[baskets.start]).astype(np.int64)
    promotions = encode_promotions(log.promotions, arrays, periods=periods)
    requests = concatenate_requests(
        [
            search_requests(interactions, baskets, catalogue, config),
            promotion_requests(interactions, baskets, promotions, config),
        ]
    )
    retrievals: dict[int, Retrieval] = {
        SEARCH: SearchRetrieval(catalogue.groups, config, products.count),
        PROMOTION: PromotionRetrieval(promotions, products.leaf, products.brand, config),
    }
    return catalogue.queries, requests, retrievals, promotions


def select_pages(built: Pages, *, smallest_search: int) -> tuple[Pages, dict[str, Any]]:
    """Leave out pages with nothing to rank or to learn; return the rest and the figures.

    Out go search pages of fewer than `smallest_search` candidates, and training pages without a
    reached positive. The figures count both.

    Raises:
        EmptyTableError: No page is left.
    """
    sizes = np.diff(built.offsets)
    too_small = (built.surface == SEARCH) & (sizes < smallest_search)
    unreached = ~too_small & (built.split == 0) & (built.reached() == 0)
    figures = page_figures(built, too_small, unreached)
    kept = np.flatnonzero(~too_small & ~unreached)
    if not len(kept):
        raise EmptyTableError(f"pages: got {built.count} with nothing to rank, want 1 or more")
    return built.take(kept), figures


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _input_folder(config: LogConfig, config_path: Path) -> Path:
    if config.folder:
        return (config_path.parent / config.folder).resolve()
    return package_folder() if config.adapter == "complete_journey" else config_path.parent


def _input_files(config: LogConfig, folder: Path) -> list[Path]:
    if config.adapter == "complete_journey":
        return list(source_files(folder).values())
    files = table_files(config, folder)
    for table, path in files.items():
        if not path.is_file():
            raise LogFileError(f"{table}: got no file {path}, want one")
    return list(files.values())


def _fingerprint(config: LogConfig, hashes: dict[str, str]) -> str:
    settings = {k: v for k, v in config.to_json().items() if k != "folder"}
    content = [FORMAT_VERSION, PREPARATION_VERSION, settings, sorted(hashes.items())]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

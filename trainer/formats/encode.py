"""Labelled pages as the network's trainer reads them: an encoded log and a catalogue in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rerank_server.contract.features import SEQUENCE_FEATURES
from rerank_server.contract.page import Floats
from rerank_server.contract.schema import FeatureSpec, Schema
from rerank_server.contract.text import TextEncoder
from rerank_server.contract.vocabulary import Vocabulary
from trainer.encoding.catalogue import Catalogue
from trainer.encoding.dataset import Prepared
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.features import NEUTRAL_CATEGORY, SURFACES, PageSelection, fit_scales
from trainer.encoding.pageset import PageSet
from trainer.encoding.words import read_tokenizer, read_word_vectors, text_vectors
from trainer.formats.labelled_pages import OBJECTIVE, TRAIN, LabelledPages

_SCALE_ROWS = 200_000
_FACTORS = 4  # width of the behaviour input, which is absent throughout
_AGE = SEQUENCE_FEATURES.index("log_age_days")
_PAGE_CATEGORY = SEQUENCE_FEATURES.index("page_category")


def encoded_fold(pages: LabelledPages, fold: int, *, scaled_on: int | None = None) -> EncodedLog:
    """Return the pages of one fold, features scaled on its training pages.

    A category without a training page has row 0, the neutral one, as a server would see it.
    Labels are (2^grade - 1) / (2^best - 1), so that a product of the best grade is 1.

    Args:
        pages: The data set.
        fold: Which of its folds.
        scaled_on: The fold whose training pages give the scales, this one where not given: a
            network that goes on from another's weights reads features on the other's scales.
    """
    splits = pages.folds[fold]
    chosen = np.flatnonzero(splits >= 0)
    sizes = np.diff(pages.offsets)[chosen]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rows = np.arange(offsets[-1]) + np.repeat(pages.offsets[chosen] - offsets[:-1], sizes)
    dense = pages.dense[rows]
    training = np.repeat(pages.folds[fold if scaled_on is None else scaled_on] == TRAIN,
                         np.diff(pages.offsets))  # fmt: skip
    schema = fit_scales(_schema(pages), pages.dense, _sample(np.flatnonzero(training)))
    known = np.isin(pages.product_categories, trained_categories(pages, fold))
    categories = np.where(known, pages.product_categories, 0).astype(np.int32)
    gains = np.exp2(pages.grades[rows].astype(np.float32)) - 1.0
    best = max(float(gains.max(initial=0.0)), 1.0)
    return EncodedLog(
        folder=Path(f"{pages.format}-{fold}-{content_hash(pages)}"),
        prepared=_prepared(pages, categories),
        schema=schema,
        selection=PageSelection(
            pages=chosen,
            surfaces=np.full(chosen.size, SURFACES.index(pages.surface), np.int8),
            offsets=offsets,
            candidates=rows,
        ),
        dense=dense,
        sequence_rows=pages.history[chosen],
        sequence_features=_event_features(pages, chosen),
        labels=(gains / best)[:, None],
        rows=pages.rows[rows],
        categories=categories[pages.rows[rows]],
        splits=splits[chosen],
    )


def trained_categories(pages: LabelledPages, fold: int) -> np.ndarray:
    """Return the codes of the categories that have candidates on training pages."""
    training = np.repeat(pages.folds[fold] == TRAIN, np.diff(pages.offsets))
    found = np.unique(pages.product_categories[pages.rows[training]])
    return found[found > 0]


def fold_pages(pages: LabelledPages, fold: int, split: int) -> PageSet:
    """Return the pages of one split of a fold as baselines and evaluation read them."""
    return pages.page_set().select(pages.folds[fold] == split)


def content_hash(pages: LabelledPages) -> str:
    """Return a hash of everything that is trained and judged on."""
    digest = hashlib.sha256()
    for array in (
        pages.offsets,
        pages.rows,
        pages.grades,
        pages.dense,
        pages.history,
        pages.product_categories,
        pages.product_brands,
        *pages.folds,
    ):
        digest.update(np.ascontiguousarray(array).tobytes())
    for text in (*pages.categories, *pages.queries, *pages.product_texts):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Texts:
    """Text vectors of a data set: of products and queries, the last row empty, and categories."""

    products: Floats
    queries: Floats
    categories: Floats

    @classmethod
    def of(cls, pages: LabelledPages) -> Texts:
        """Encode every text once."""
        words, encoder = read_word_vectors(), TextEncoder(read_tokenizer())
        names = [name.replace("_", " ") for name in pages.categories]
        return cls(
            text_vectors([*pages.product_texts, ""], words, encoder)
            if any(pages.product_texts)
            else np.zeros((len(pages.product_texts) + 1, words.shape[1]), np.float32),
            text_vectors([*pages.queries, ""], words, encoder),
            text_vectors(names, words, encoder),
        )


def catalogue_of(
    pages: LabelledPages, fold: int, log: EncodedLog, texts: Texts, *, identities: bool = True
) -> Catalogue:
    """Return the inputs of the product tower; a product no training page holds has no identity.

    Without `identities` no product has one, so that networks of all folds have equal shapes.
    """
    training = np.repeat(pages.folds[fold] == TRAIN, np.diff(pages.offsets))
    events = pages.history[pages.folds[fold] == TRAIN]
    trained = np.union1d(pages.rows[training], events[events >= 0])
    size = len(pages.product_texts)
    own = np.zeros(size + 1, np.int32)
    if identities and (pages.history >= 0).any():  # without events a product is seen once
        own[trained] = np.arange(1, trained.size + 1)
    described = texts.categories
    neutral = described[trained_categories(pages, fold) - 1]
    middle = neutral.mean(axis=0) if neutral.size else described.mean(axis=0)
    categories = np.append(log.prepared.product_categories, np.int32(0))
    return Catalogue(
        records=[],
        vocabulary=Vocabulary(
            levels=(pages.categories, ()),
            attributes=(pages.brands, ()),
            identities=tuple(str(row) for row in trained) if own.any() else (),
        ),
        text=texts.products,
        categories=categories,
        levels=np.stack([categories, np.zeros_like(categories)], axis=1),
        attributes=np.stack(
            [np.append(pages.product_brands, np.int32(0)), np.zeros_like(categories)], axis=1
        ),
        identities=own,
        factors=np.zeros((size + 1, _FACTORS), np.float32),
        factors_present=np.zeros(size + 1, np.float32),
        query_text=texts.queries,
        category_text=np.vstack([middle, described]).astype(np.float32),
    )


def _sample(rows: np.ndarray) -> np.ndarray:
    return rows[:: max(rows.size // _SCALE_ROWS, 1)]


def _schema(pages: LabelledPages) -> Schema:
    return Schema(
        features=tuple(FeatureSpec(name, "all") for name in pages.feature_names),
        product_columns=(),
        signals=(),
        levels=("leaf", "middle"),
        attributes=("brand", "size"),
        surfaces=SURFACES,
        event_kinds=("purchase",),
        objectives=(OBJECTIVE,),
        categories=(NEUTRAL_CATEGORY, *pages.categories),
        sequence_length=pages.history.shape[1],
    )


def _event_features(pages: LabelledPages, chosen: np.ndarray) -> np.ndarray:
    """Return the numbers of each event: how far back it is, and whether of the page's category."""
    history = pages.history[chosen]
    present = history >= 0
    count = present.sum(axis=1, keepdims=True)
    back = np.maximum(count - np.arange(history.shape[1]), 1)
    first = pages.rows[np.minimum(pages.offsets[chosen], max(pages.rows.size - 1, 0))]
    same = pages.product_categories[history] == pages.product_categories[first][:, None]
    features = np.zeros((*history.shape, len(SEQUENCE_FEATURES)), np.float32)
    features[:, :, _AGE] = np.where(present, np.log1p(back), 0.0)
    features[:, :, _PAGE_CATEGORY] = present & same
    return features


def _prepared(pages: LabelledPages, categories: np.ndarray) -> Prepared:
    """Return the log without what neither batches nor the network read of it."""
    size, count = len(pages.product_texts), pages.count
    none = np.zeros(0, np.int64)
    return Prepared(
        path=Path(),
        manifest={},
        categories=pages.categories,
        queries=tuple(pages.queries),
        shoppers=(),
        places=(),
        product_categories=categories,
        product_leaves=categories,
        product_middles=np.zeros(size, np.int32),
        product_brands=pages.product_brands,
        product_sizes=np.zeros(size, np.int32),
        shopper_offsets=none,
        interaction_rows=none.astype(np.int32),
        interaction_times=none,
        interaction_places=none.astype(np.int32),
        interaction_quantities=none.astype(np.float32),
        interaction_prices=none.astype(np.float32),
        interaction_discounts=none.astype(np.float32),
        page_shoppers=pages.clusters,
        page_times=np.arange(count, dtype=np.int64),
        page_places=np.full(count, -1, np.int32),
        page_queries=pages.page_queries,
        page_surfaces=np.zeros(count, np.int8),
        page_splits=np.zeros(count, np.int8),
        page_categories=np.zeros(count, np.int32),
        page_positives_total=pages.positives_total,
        page_offsets=pages.offsets,
        candidate_rows=pages.rows,
        candidate_scores=np.zeros(pages.rows.size, np.float32),
        candidate_signals=np.zeros((pages.rows.size, 0), np.float32),
        candidate_labels=pages.grades[:, None],
        candidate_sources=np.zeros(pages.rows.size, np.uint8),
    )

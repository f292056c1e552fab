"""Puts the network together with a catalogue: batches in, logits out."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import Tensor

from rerank_server.contract.features import SEQUENCE_FEATURES
from rerank_server.contract.graph_inputs import present_rows
from rerank_server.contract.schema import normalise
from trainer.config import TrainConfig
from trainer.encoding.batches import Batch, batches_in_order, make_batch
from trainer.encoding.catalogue import Catalogue
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.features import quantile_edges
from trainer.encoding.words import read_word_vectors
from trainer.model.dropout import OwnRows
from trainer.model.ranker import PageBatch, Ranker, RankerSizes

_EDGE_ROWS = 100_000


def build_ranker(config: TrainConfig, log: EncodedLog, catalogue: Catalogue) -> Ranker:
    """Return a freshly initialised network; the same seed gives the same weights."""
    paddle.seed(config.seed)
    train = np.concatenate([log.pages_of("train", surface) for surface in config.surfaces])
    rows = _sample_rows(log, train)
    edges = quantile_edges(normalise(log.schema, log.dense[rows]), config.number_bins)
    sizes = RankerSizes(
        products=catalogue.sizes(),
        surfaces=len(log.schema.surfaces),
        features=len(log.schema.features),
        event_features=len(SEQUENCE_FEATURES),
        objectives=len(config.objectives),
        width=config.width,
        hidden=config.hidden,
        rank=config.rank,
        adapter=config.adapter,
        heads=config.heads,
        page_layers=config.page_layers,
        number_bins=config.number_bins,
        dropout=config.dropout,
        modality_dropout=config.modality_dropout,
        left_out_modalities=config.left_out_modalities,
        shopper_sequence=config.shopper_sequence,
        sequence=config.sequence,
        gate=config.gate,
        experts=config.experts,
    )
    words = read_word_vectors() if catalogue.sentences is None else None
    return Ranker(sizes, words, catalogue.category_text, edges)


def _sample_rows(log: EncodedLog, pages: np.ndarray) -> np.ndarray:
    """Return about `_EDGE_ROWS` candidate rows spread evenly over `pages`."""
    starts, stops = log.offsets[pages], log.offsets[pages + 1]
    step = max(int((stops - starts).sum()) // _EDGE_ROWS, 1)
    first = starts + np.arange(pages.size) % step
    counts = np.maximum(-((first - stops) // step), 0)  # of first, first + step, ... below stops
    before = np.cumsum(counts) - counts
    within = np.arange(int(counts.sum())) - np.repeat(before, counts)
    rows: np.ndarray = np.repeat(first, counts) + step * within
    return rows


def page_batch(ranker: Ranker, catalogue: Catalogue, batch: Batch) -> PageBatch:
    """Run the product and query towers and gather their vectors for each page."""
    rows, place = batch.products, batch.place
    ranker.set_own_rows(
        None if place is None else OwnRows(paddle.to_tensor(place.pages), place.page_count),
        None if place is None else OwnRows(paddle.to_tensor(place.products), place.product_count),
    )
    vectors = ranker.products(
        paddle.to_tensor(catalogue.text[rows]),
        paddle.to_tensor(catalogue.categories[rows].astype(np.int64)),
        paddle.to_tensor(catalogue.levels[rows].astype(np.int64)),
        paddle.to_tensor(catalogue.attributes[rows].astype(np.int64)),
        paddle.to_tensor(catalogue.identities[rows].astype(np.int64)),
        paddle.to_tensor(catalogue.factors[rows]),
        paddle.to_tensor(catalogue.factors_present[rows]),
        vector_tensors(catalogue, rows),
    )
    return PageBatch(
        query=ranker.query(paddle.to_tensor(catalogue.query_text[batch.queries])),
        surface=paddle.to_tensor(batch.surface),
        candidates=_gather(vectors, batch.candidates),
        mask=paddle.to_tensor(batch.mask),
        categories=paddle.to_tensor(batch.categories),
        dense=paddle.to_tensor(batch.dense),
        sequence=_gather(vectors, batch.sequence),
        sequence_features=paddle.to_tensor(batch.sequence_features),
        sequence_mask=paddle.to_tensor(batch.sequence_mask),
    )


def vector_tensors(catalogue: Catalogue, rows: np.ndarray) -> list[Tensor]:
    """Return each named vector of some products and where it is present, one after the other."""
    tensors = []
    for vector in catalogue.vectors:
        values = vector.values[rows]
        tensors += [paddle.to_tensor(values), paddle.to_tensor(present_rows(values))]
    return tensors


def _gather(vectors: Tensor, index: np.ndarray) -> Tensor:
    """Return `vectors[index]`, shape (*index.shape, width)."""
    flat = paddle.gather(vectors, paddle.to_tensor(index.ravel()))
    return flat.reshape([*index.shape, vectors.shape[1]])


@paddle.no_grad()
def score_pages(
    ranker: Ranker,
    catalogue: Catalogue,
    log: EncodedLog,
    pages: np.ndarray,
    *,
    rows: int = 8192,
    trees: bool = True,
) -> np.ndarray:
    """Return the logits of every candidate of `pages`, in their order.

    Args:
        ranker: The network; its mode is set to evaluation.
        catalogue: Inputs of the product tower.
        log: The encoded log.
        pages: Page numbers.
        rows: About how many padded candidates share a call.
        trees: Whether the trees' part is mixed in.

    Returns:
        Shape (candidates of all pages, objectives), float32.
    """
    ranker.eval()
    sizes = np.diff(log.offsets)[pages]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    place = dict(zip(pages.tolist(), range(pages.size), strict=True))
    out = np.empty((int(starts[-1]), ranker.sizes.objectives), np.float32)
    for chosen in batches_in_order(pages, log, rows):
        batch = make_batch(log, chosen)
        logits = ranker.scorer(page_batch(ranker, catalogue, batch)).numpy()
        if trees and ranker.tree_term is not None:
            logits = ranker.tree_term.mixed(logits, batch.dense, batch.categories, batch.surface)
        for index, page in enumerate(chosen.tolist()):
            where = place[page]
            out[starts[where] : starts[where + 1]] = logits[index, : sizes[where]]
    return out

"""From a trained network to a bundle: ONNX export, the parity gate, and the folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import paddle

from rerank_server.contract.bundle import TOLERANCE, Bundle, BundleContent, Widths, write_bundle
from rerank_server.contract.features import SEQUENCE_FEATURES
from rerank_server.contract.golden import (
    Golden,
    Graphs,
    golden_scorer_pages,
    move_page,
    replay_golden,
    score_difference,
    score_scales,
    subset_products,
)
from rerank_server.contract.graph_inputs import (
    PRODUCT_INPUTS,
    QUERY_INPUTS,
    SCORER_INPUTS,
    SCORER_OUTPUTS,
    VECTOR_OUTPUTS,
    Arrays,
    Graph,
    scorer_inputs,
    vector_inputs,
)
from rerank_server.contract.outputs import ObjectiveOutput, OutputKind
from rerank_server.contract.page import SECONDS_PER_DAY, Page
from rerank_server.contract.products import ProductTable
from rerank_server.contract.schema import Schema
from rerank_server.contract.text import TextEncoder, TextSettings
from trainer.baselines.tree_nodes import TREE_LOGITS
from trainer.encoding.catalogue import Catalogue
from trainer.encoding.encoded import EncodedLog, heads_of_log
from trainer.encoding.features import page_of
from trainer.encoding.sentence_encoder import TEXT, SentenceEncoder
from trainer.encoding.words import read_tokenizer
from trainer.errors import ExportError
from trainer.export.graphs import ScorerGraph, export_graphs
from trainer.export.product_graphs import product_layer, query_layer, text_inputs
from trainer.model.ranker import Ranker
from trainer.objectives import Head
from trainer.training.provenance import code_commit

GATE_SIZES = (1, 7, 1000)
_GOLDEN_PER_SURFACE = 3
_GOLDEN_CANDIDATES = 12  # enough to see every layer work, small enough to be read


def export_bundle(
    folder: Path,
    ranker: Ranker,
    log: EncodedLog,
    catalogue: Catalogue,
    table: ProductTable,
    *,
    objective_weights: Mapping[str, Mapping[str, float]],
    report: Mapping[str, Any],
    figures: Mapping[str, float],
) -> Bundle:
    """Export, prove that onnxruntime scores as Paddle does, and only then write the bundle.

    Args:
        folder: Where the bundle goes; replaced as a whole or left alone.
        ranker: Trained and calibrated.
        log: Where golden pages are taken from.
        catalogue: What the product tower is told.
        table: The products as of the day of export.
        objective_weights: Surface -> objective -> weight in the score.
        report: The full evaluation.
        figures: Evaluation figures by name.

    Raises:
        ExportError: When a score differs by more than the tolerance.
        BundleError: When the folder cannot be written.
    """
    sentences = catalogue.sentences
    paddle_side = paddle_graphs(ranker, sentences)
    tokenizer = read_tokenizer() if sentences is None else sentences.tokenizer
    text = TextSettings() if sentences is None else sentences.settings
    encoder = TextEncoder(tokenizer, text)
    schema = replace(log.schema, vectors=catalogue.vector_specs())
    serialised = export_graphs(ranker, len(schema.features), len(SEQUENCE_FEATURES), sentences)
    onnx_side = onnx_graphs(serialised)
    pages = golden_pages(log, table)
    gate = _golden(
        pages + sized_pages(pages, table), table, catalogue, schema, encoder, paddle_side
    )
    check_parity(gate, schema, encoder, onnx_side)
    golden = _golden(pages, table, catalogue, schema, encoder, paddle_side)
    return write_bundle(
        folder,
        BundleContent(
            schema=schema,
            objective_weights=objective_weights,
            widths=Widths(
                product=ranker.sizes.width,
                query=ranker.sizes.width,
                factors=ranker.sizes.products.factors,
            ),
            graphs=serialised,
            vocabulary=catalogue.vocabulary,
            tokenizer=tokenizer,
            text=text,
            golden=golden,
            report=report,
            figures=figures,
            trainer_commit=code_commit(),
            created=datetime.now(UTC),
            objectives=[_output(head) for head in heads_of_log(log)],
        ),
    )


def _output(head: Head) -> ObjectiveOutput:
    unit = head.label.unit or ("seconds" if head.label.type == "dwell" else "")
    if head.amount:
        return ObjectiveOutput(head.name, head.label.type, "amount", unit, head.meaning)
    kind: OutputKind = "gain_share" if head.label.type == "graded" else "probability"
    return ObjectiveOutput(head.name, head.label.type, kind, "", head.meaning)


def check_parity(golden: Golden, schema: Schema, encoder: TextEncoder, graphs: Graphs) -> float:
    """Return the largest difference between `graphs` and the scores in `golden`.

    Pages are scored one by one and all in one padded call.

    Raises:
        ExportError: When it is above the tolerance.
    """
    differences = [replay_golden(golden, schema, encoder, graphs)]
    scales = score_scales(golden)
    pages = golden_scorer_pages(golden, schema, encoder, graphs)
    together = graphs.scorer(scorer_inputs(pages))["probabilities"]
    for got, page, expected in zip(together, pages, golden.probabilities, strict=True):
        differences.append(score_difference(got[: page.size], expected, scales))
    difference = float(np.max(differences))  # NaN where one is, on either side
    if not difference <= TOLERANCE:
        raise ExportError(
            f"parity: got a difference of {difference:.2e} between Paddle and onnxruntime, "
            f"want at most {TOLERANCE:.0e}; no bundle was written"
        )
    return difference


def golden_pages(log: EncodedLog, table: ProductTable) -> list[Page]:
    """Return a few short pages of every surface, none before the table's day."""
    prepared, selection = log.prepared, log.selection
    late = (np.diff(selection.offsets) > 0) & (
        prepared.page_times[selection.pages] // SECONDS_PER_DAY >= table.as_of_day
    )
    pages: list[Page] = []
    for surface in np.unique(selection.surfaces):
        usable = np.flatnonzero(late & (selection.surfaces == surface))
        for index in usable[:: max(usable.size // _GOLDEN_PER_SURFACE, 1)][:_GOLDEN_PER_SURFACE]:
            start, stop = selection.offsets[index : index + 2]
            chosen = selection.candidates[start : min(stop, start + _GOLDEN_CANDIDATES)]
            pages.append(page_of(prepared, int(selection.pages[index]), int(surface), chosen))
    if not pages:
        raise ExportError(
            f"golden pages: got no page on or after day {table.as_of_day}, want at least one"
        )
    return pages


def sized_pages(pages: list[Page], table: ProductTable) -> list[Page]:
    """Return pages of `GATE_SIZES` candidates: the first page's shopper, products in row order."""
    first = max(pages, key=lambda page: page.history.size)
    made = []
    for size in GATE_SIZES:
        rows = np.linspace(0, table.unknown_row, size).astype(np.int32)
        made.append(
            Page(
                query=first.query,
                surface=first.surface,
                time=first.time,
                rows=rows,
                retrieval_scores=np.linspace(5, 0, size).astype(np.float32),
                signals=np.full((size, first.signals.shape[1]), np.nan, np.float32),
                history=first.history,
            )
        )
    return made


def _golden(
    pages: list[Page],
    table: ProductTable,
    catalogue: Catalogue,
    schema: Schema,
    encoder: TextEncoder,
    graphs: Graphs,
) -> Golden:
    """Return the pages with Paddle's scores."""
    rows, subset = subset_products(table, pages)
    texts = [*(record["text"] for record in catalogue.records), ""]
    unscored = Golden(
        table=subset,
        texts=tuple(texts[row] for row in rows),
        identities=catalogue.identities[rows],
        pages=tuple(move_page(page, rows) for page in pages),
        probabilities=(),
        vectors=_golden_vectors(pages, rows, catalogue),
    )
    scored = golden_scorer_pages(unscored, schema, encoder, graphs)
    probabilities = [graphs.scorer(scorer_inputs([page]))["probabilities"][0] for page in scored]
    return replace(unscored, probabilities=tuple(probabilities))


def _golden_vectors(
    pages: list[Page], rows: np.ndarray, catalogue: Catalogue
) -> dict[str, np.ndarray]:
    """Return the named vectors of the candidates; what is in histories alone goes without.

    So the files stay small, and products without are seen too.
    """
    shown = np.isin(rows, np.concatenate([page.rows for page in pages]))
    return {
        vector.name: np.asarray(vector.values[rows], np.float32) * shown[:, None].astype(np.float32)
        for vector in catalogue.vectors
    }


def paddle_graphs(ranker: Ranker, sentences: SentenceEncoder | None = None) -> Graphs:
    """Return the graphs as Paddle computes them, and LightGBM the trees' part.

    `sentences` makes the text vectors of a network without a text encoder of its own.
    """
    ranker.eval()
    own = ranker.text is not None
    product_names: tuple[str, ...] = PRODUCT_INPUTS
    query_names: tuple[str, ...] = QUERY_INPUTS
    if not own:
        product_names, query_names = text_inputs(PRODUCT_INPUTS), text_inputs(QUERY_INPUTS)
    vectors = vector_inputs(ranker.sizes.products.vectors)

    def encoded(arrays: Arrays) -> Arrays:
        if sentences is None or own:
            return arrays
        text = sentences.encode(arrays["token_ids"], arrays["token_mask"])
        return {**arrays, TEXT: text}

    def graph(
        layer: paddle.nn.Layer,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        listed: tuple[str, ...] = (),
    ) -> Graph:
        layer.eval()

        @paddle.no_grad()
        def run(arrays: Arrays) -> Mapping[str, np.ndarray]:
            given: list[Any] = [paddle.to_tensor(arrays[name]) for name in inputs]
            if listed:
                given.append([paddle.to_tensor(arrays[name]) for name in listed])
            got = layer(*given)
            values = got if isinstance(got, tuple) else (got,)
            return {name: value.numpy() for name, value in zip(outputs, values, strict=True)}

        return run

    term = ranker.tree_term
    scorer_names = SCORER_INPUTS if term is None else (*SCORER_INPUTS, TREE_LOGITS)
    network = graph(ScorerGraph(ranker), scorer_names, SCORER_OUTPUTS)

    def scorer(arrays: Arrays) -> Mapping[str, np.ndarray]:
        if term is None:
            return network(arrays)
        added = term(arrays["dense"], arrays["categories"], arrays["surface"])
        return network({**arrays, TREE_LOGITS: added})

    product = graph(product_layer(ranker), product_names, VECTOR_OUTPUTS, vectors)
    query = graph(query_layer(ranker), query_names, VECTOR_OUTPUTS)
    return Graphs(
        product=lambda arrays: product(encoded(arrays)),
        query=lambda arrays: query(encoded(arrays)),
        scorer=scorer,
    )


def onnx_graphs(serialised: Mapping[str, bytes]) -> Graphs:
    """Return the graphs as onnxruntime computes them on the CPU."""

    def graph(name: str, outputs: tuple[str, ...]) -> Callable[[Arrays], Mapping[str, np.ndarray]]:
        session = onnxruntime.InferenceSession(serialised[name], providers=["CPUExecutionProvider"])

        def run(arrays: Arrays) -> Mapping[str, np.ndarray]:
            got = session.run(list(outputs), arrays)
            return dict(zip(outputs, got, strict=True))

        return run

    return Graphs(
        product=graph("product.onnx", VECTOR_OUTPUTS),
        query=graph("query.onnx", VECTOR_OUTPUTS),
        scorer=graph("scorer.onnx", SCORER_OUTPUTS),
    )

"""A bundle, a catalogue and a product store small enough to check by eye, made without Paddle."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from rerank_server.contract.bundle import Bundle, BundleContent, Widths, write_bundle
from rerank_server.contract.golden import Golden, Graphs, golden_scorer_pages
from rerank_server.contract.graph_inputs import (
    PRODUCT_INPUTS,
    QUERY_INPUTS,
    SCORER_INPUTS,
    SCORER_OUTPUTS,
    VECTOR_OUTPUTS,
    scorer_inputs,
)
from rerank_server.contract.page import SECONDS_PER_DAY, History, Page
from rerank_server.contract.products import ProductTable
from rerank_server.contract.schema import FeatureSpec, ProductColumn, Schema, SignalSpec
from rerank_server.contract.text import TextEncoder
from rerank_server.contract.vocabulary import Vocabulary
from rerank_server.onnx_graph import OnnxGraph, open_graphs
from rerank_server.product_build import build_product_store

AS_OF_DAY = 20_000
NOW = AS_OF_DAY * SECONDS_PER_DAY + 3_600

SCHEMA = Schema(
    features=(
        FeatureSpec("retrieval_score", "retrieval"),
        FeatureSpec("own_count", "bought before"),
        FeatureSpec("price", "price"),
        FeatureSpec("promoted", "promotion"),
    ),
    product_columns=(ProductColumn("price"), ProductColumn("sales_28d", window_days=28)),
    signals=(SignalSpec("promoted"),),
    levels=("leaf", "middle"),
    attributes=("brand", "size"),
    surfaces=("search", "promotion"),
    event_kinds=("click", "purchase"),
    objectives=("purchase", "trial"),
    categories=("neutral", "dairy", "pet"),
    sequence_length=3,
    history_limit=8,
)

# logit of (purchase, trial) per unit of each feature, in the order of SCHEMA.features
DENSE_WEIGHTS = np.array([[0.1, 0.1], [1.0, -1.0], [-0.5, 0.0], [0.3, 0.3]], np.float32)
# per unit of the product vector (category row / 10, first ALS factor)
VECTOR_WEIGHTS = np.array([[1.0, 0.0], [0.5, 0.0]], np.float32)
# per unit of the sum of the past events' vectors
SEQUENCE_WEIGHTS = np.array([[0.0, 0.2], [0.0, 0.0]], np.float32)
# per token of the query
QUERY_WEIGHTS = np.array([[0.01, 0.01], [0.0, 0.0]], np.float32)
# per unit of the category row
CATEGORY_WEIGHTS = np.array([0.0, 0.05], np.float32)

VOCABULARY = Vocabulary(
    levels=(("milk", "dog food"), ("fluid milk", "pet food")),
    attributes=(("Acme",), ("1 l", "2 kg")),
    identities=("milk-1", "dog-1"),
)

# id, category, path, brand, size, price, sales_28d, first factor
PRODUCTS = (
    ("milk-1", "dairy", ["dairy", "fluid milk", "milk"], "Acme", "1 l", 1.0, 10, 1.0),
    ("milk-2", "dairy", ["dairy", "fluid milk", "milk"], None, "1 l", 1.2, 4, 0.5),
    ("dog-1", "pet", ["pet", "pet food", "dog food"], "Acme", "2 kg", 4.0, 2, 0.0),
    ("cat-1", "pet", ["pet", "pet food", "cat food"], "Zeta", None, None, 0, -1.0),
    ("gift-1", "gifts", ["gifts"], None, None, 2.0, 1, 0.0),
)


def tiny_tokenizer() -> bytes:
    words = ["[UNK]", "milk", "dog", "food", "fresh"]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": None,
            "decoder": None,
            "model": {
                "type": "WordLevel",
                "vocab": {word: index for index, word in enumerate(words)},
                "unk_token": "[UNK]",
            },
        }
    ).encode()


_FLOAT, _INT = TensorProto.FLOAT, TensorProto.INT64
_LAYOUT: dict[str, tuple[int, list[str | int | None]]] = {
    "token_ids": (_INT, ["n", "tokens"]),
    "token_mask": (_FLOAT, ["n", "tokens"]),
    "category": (_INT, ["n"]),
    "levels": (_INT, ["n", 2]),
    "attributes": (_INT, ["n", 2]),
    "identity": (_INT, ["n"]),
    "factors": (_FLOAT, ["n", 1]),
    "factors_present": (_FLOAT, ["n"]),
    "query_vector": (_FLOAT, ["pages", 2]),
    "surface": (_INT, ["pages"]),
    "candidate_vectors": (_FLOAT, ["pages", "candidates", 2]),
    "candidate_mask": (_FLOAT, ["pages", "candidates"]),
    "categories": (_INT, ["pages", "candidates"]),
    "dense": (_FLOAT, ["pages", "candidates", 4]),
    "sequence_vectors": (_FLOAT, ["pages", "events", 2]),
    "sequence_features": (_FLOAT, ["pages", "events", 5]),
    "sequence_mask": (_FLOAT, ["pages", "events"]),
    "vectors": (_FLOAT, ["n", 2]),
    "probabilities": (_FLOAT, ["pages", "candidates", 2]),
    "logits": (_FLOAT, ["pages", "candidates", 2]),
}


def graph_bytes(nodes, constants, inputs, outputs) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, *_LAYOUT[name]) for name in inputs],
        [helper.make_tensor_value_info(name, *_LAYOUT[name]) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tests"
    )
    return model.SerializeToString()


def product_graph() -> bytes:
    """vectors = (category / 10, first factor)"""
    nodes = [
        helper.make_node("Cast", ["category"], ["category_f"], to=_FLOAT),
        helper.make_node("Mul", ["category_f", "tenth"], ["scaled"]),
        helper.make_node("Unsqueeze", ["scaled", "last"], ["column"]),
        helper.make_node("Concat", ["column", "factors"], ["vectors"], axis=1),
    ]
    constants = {"tenth": np.float32(0.1), "last": np.array([1], np.int64)}
    constants = {name: np.asarray(array) for name, array in constants.items()}
    return graph_bytes(nodes, constants, PRODUCT_INPUTS, VECTOR_OUTPUTS)


def word_count_graph() -> bytes:
    """vectors = (number of words, number of words), a product graph that reads texts"""
    nodes = [
        helper.make_node("ReduceSum", ["token_mask", "last"], ["count"], keepdims=1),
        helper.make_node("Concat", ["count", "count"], ["vectors"], axis=1),
    ]
    return graph_bytes(nodes, {"last": np.array([1], np.int64)}, PRODUCT_INPUTS, VECTOR_OUTPUTS)


def query_graph() -> bytes:
    """vectors = (number of tokens, number of tokens)"""
    nodes = [
        helper.make_node("ReduceSum", ["token_mask", "last"], ["count"], keepdims=1),
        helper.make_node("Concat", ["count", "count"], ["vectors"], axis=1),
    ]
    return graph_bytes(nodes, {"last": np.array([1], np.int64)}, QUERY_INPUTS, VECTOR_OUTPUTS)


def scorer_graph(sign: float = 1.0) -> bytes:
    """logits = sign * (dense W + product V + query Q + (sum of events) S + category C)"""
    nodes = [
        helper.make_node("MatMul", ["dense", "W"], ["from_dense"]),
        helper.make_node("MatMul", ["candidate_vectors", "V"], ["from_products"]),
        helper.make_node("MatMul", ["query_vector", "Q"], ["query_flat"]),
        helper.make_node("Unsqueeze", ["query_flat", "axis_1"], ["from_query"]),
        helper.make_node("Unsqueeze", ["sequence_mask", "axis_2"], ["event_mask"]),
        helper.make_node("Mul", ["sequence_vectors", "event_mask"], ["events"]),
        helper.make_node("ReduceSum", ["events", "axis_1"], ["event_sum"], keepdims=1),
        helper.make_node("MatMul", ["event_sum", "S"], ["from_events"]),
        helper.make_node("Cast", ["categories"], ["categories_f"], to=_FLOAT),
        helper.make_node("Unsqueeze", ["categories_f", "axis_2"], ["category_column"]),
        helper.make_node("Mul", ["category_column", "C"], ["from_categories"]),
        helper.make_node(
            "Sum",
            ["from_dense", "from_products", "from_query", "from_events", "from_categories"],
            ["logits"],
        ),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
    ]
    constants = {
        "W": DENSE_WEIGHTS * np.float32(sign),
        "V": VECTOR_WEIGHTS * np.float32(sign),
        "Q": QUERY_WEIGHTS * np.float32(sign),
        "S": SEQUENCE_WEIGHTS * np.float32(sign),
        "C": CATEGORY_WEIGHTS * np.float32(sign),
        "axis_1": np.array([1], np.int64),
        "axis_2": np.array([2], np.int64),
    }
    return graph_bytes(nodes, constants, SCORER_INPUTS, SCORER_OUTPUTS)


def tiny_graph_bytes(sign: float = 1.0) -> dict[str, bytes]:
    return {
        "product.onnx": product_graph(),
        "query.onnx": query_graph(),
        "scorer.onnx": scorer_graph(sign),
    }


def tiny_graphs(graphs: dict[str, bytes]) -> Graphs:
    def load(name, inputs, outputs) -> OnnxGraph:
        return OnnxGraph(graphs[name], name, inputs, outputs, threads=1)

    return Graphs(
        product=load("product.onnx", PRODUCT_INPUTS, VECTOR_OUTPUTS),
        query=load("query.onnx", QUERY_INPUTS, VECTOR_OUTPUTS),
        scorer=load("scorer.onnx", SCORER_INPUTS, SCORER_OUTPUTS),
    )


def tiny_table() -> ProductTable:
    """Three products and the unknown row; milk-1 and dog-1 are each other's neighbours."""
    return ProductTable(
        categories=np.array([1, 1, 2, 0], np.int32),
        levels=np.array([[1, 1], [1, 1], [2, 2], [0, 0]], np.int32),
        attributes=np.array([[1, 1], [0, 1], [1, 2], [0, 0]], np.int32),
        stats=np.array([[1.0, 10], [1.2, 4], [4.0, 2], [np.nan, np.nan]], np.float32),
        factors=np.array([[1.0], [0.5], [0.0], [0.0]], np.float32),
        neighbours=np.array([[2], [-1], [0], [-1]], np.int32),
        neighbour_weights=np.array([[0.5], [0.0], [0.5], [0.0]], np.float32),
        gram=np.array([[1.25]]),
        as_of_day=AS_OF_DAY,
    )


def tiny_pages() -> tuple[Page, ...]:
    history = History(
        rows=np.array([0, 2, 3], np.int32),
        times=np.array([NOW - 5 * SECONDS_PER_DAY, NOW - 60, NOW - 60], np.int64),
        kinds=np.array([1, 1, 1], np.int8),
        same_place=np.array([True, False, True]),
        discounted=np.array([False, True, False]),
    )
    page = Page(
        query="fresh milk",
        surface=0,
        time=NOW,
        rows=np.array([0, 1, 2, 3], np.int32),
        retrieval_scores=np.array([3.0, 2.0, np.nan, 1.0], np.float32),
        signals=np.array([[1.0], [0.0], [np.nan], [0.0]], np.float32),
        history=history,
    )
    alone = Page(
        query="",
        surface=1,
        time=NOW,
        rows=np.array([3], np.int32),
        retrieval_scores=np.array([np.nan], np.float32),
        signals=np.array([[np.nan]], np.float32),
    )
    return (page, alone)


def tiny_golden(graphs: dict[str, bytes]) -> Golden:
    """Golden pages whose scores onnxruntime gave: what Paddle does for a real bundle."""
    pages = tiny_pages()
    golden = Golden(
        table=tiny_table(),
        texts=("fresh milk", "milk", "dog food", ""),
        identities=np.array([1, 0, 2, 0], np.int32),
        pages=pages,
        probabilities=tuple(np.zeros((page.size, 2), np.float32) for page in pages),
    )
    functions = tiny_graphs(graphs)
    encoder = TextEncoder(tiny_tokenizer())
    scored = [
        functions.scorer(scorer_inputs([page]))["probabilities"][0]
        for page in golden_scorer_pages(golden, SCHEMA, encoder, functions)
    ]
    return replace(golden, probabilities=tuple(scored))


def tiny_content(graphs: dict[str, bytes] | None = None) -> BundleContent:
    graphs = graphs or tiny_graph_bytes()
    return BundleContent(
        schema=SCHEMA,
        objective_weights={
            "search": {"purchase": 1.0, "trial": 0.0},
            "promotion": {"purchase": 0.5, "trial": 0.5},
        },
        widths=Widths(product=2, query=2, factors=1),
        graphs=graphs,
        vocabulary=VOCABULARY,
        tokenizer=tiny_tokenizer(),
        golden=tiny_golden(graphs),
        report={"note": "[\n 1 ] stays as it is"},
        figures={"search_ndcg_at_10": 0.5},
        trainer_commit="0" * 40,
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )


def write_tiny_bundle(folder: Path) -> Bundle:
    return write_bundle(folder, tiny_content())


def write_tiny_snapshot(folder: Path, products=PRODUCTS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps(
            {
                "id": product_id,
                "text": " ".join(reversed(path)),
                "category": category,
                "category_path": path,
                "brand": brand,
                "size": size,
                "columns": {"price": price, "sales_28d": sales},
            }
        )
        for product_id, category, path, brand, size, price, sales, _ in products
    ]
    (folder / "products.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    count = len(products)
    factors = np.array([[product[-1]] for product in products], np.float32).reshape(count, 1)
    neighbours = np.full((count, 2), -1, np.int32)
    weights = np.zeros((count, 2), np.float32)
    if count > 1:
        neighbours[0, 0], weights[0, 0] = 1, 0.5
        neighbours[1, 0], weights[1, 0] = 0, 0.5
    np.save(folder / "factors.npy", factors)
    np.save(folder / "neighbours.npy", neighbours)
    np.save(folder / "neighbour_weights.npy", weights)
    np.save(folder / "gram.npy", factors.astype(np.float64).T @ factors.astype(np.float64))
    (folder / "snapshot.json").write_text(
        json.dumps({"format_version": 1, "as_of_day": AS_OF_DAY}), encoding="utf-8"
    )


def write_tiny_store(folder: Path, bundle: Bundle, snapshot: Path, products=PRODUCTS) -> None:
    write_tiny_snapshot(snapshot, products)
    build_product_store(bundle, open_graphs(bundle, threads=1), snapshot, folder)

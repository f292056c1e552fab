"""A catalogue of any size and a bundle with wide product vectors, made without training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from rerank_server.contract.bundle import Bundle, BundleContent, Widths, write_bundle
from rerank_server.contract.features import SEQUENCE_FEATURES
from rerank_server.contract.golden import Graphs, golden_scorer_pages
from rerank_server.contract.graph_inputs import (
    PRODUCT_INPUTS,
    SCORER_INPUTS,
    SCORER_OUTPUTS,
    VECTOR_OUTPUTS,
    scorer_inputs,
)
from rerank_server.contract.text import TextEncoder
from rerank_server.onnx_graph import OnnxGraph
from rerank_server.product_columns import BLOCK_ROWS, ColumnWriter
from tests.rerank_server.tiny_bundle import (
    AS_OF_DAY,
    SCHEMA,
    query_graph,
    tiny_content,
    tiny_golden,
    tiny_graph_bytes,
    tiny_graphs,
    tiny_tokenizer,
)

WIDTH, FACTORS, NEIGHBOURS = 128, 32, 10
_FLOAT, _INT = TensorProto.FLOAT, TensorProto.INT64
_PAGE: list[str | int | None] = ["pages", "candidates"]
_LAYOUT: dict[str, tuple[int, list[str | int | None]]] = {
    "token_ids": (_INT, ["n", "tokens"]),
    "token_mask": (_FLOAT, ["n", "tokens"]),
    "category": (_INT, ["n"]),
    "levels": (_INT, ["n", 2]),
    "attributes": (_INT, ["n", 2]),
    "identity": (_INT, ["n"]),
    "factors": (_FLOAT, ["n", FACTORS]),
    "factors_present": (_FLOAT, ["n"]),
    "query_vector": (_FLOAT, ["pages", 2]),
    "surface": (_INT, ["pages"]),
    "candidate_vectors": (_FLOAT, [*_PAGE, WIDTH]),
    "candidate_mask": (_FLOAT, _PAGE),
    "categories": (_INT, _PAGE),
    "dense": (_FLOAT, [*_PAGE, 4]),
    "sequence_vectors": (_FLOAT, ["pages", "events", WIDTH]),
    "sequence_features": (_FLOAT, ["pages", "events", len(SEQUENCE_FEATURES)]),
    "sequence_mask": (_FLOAT, ["pages", "events"]),
    "vectors": (_FLOAT, ["n", WIDTH]),
    "probabilities": (_FLOAT, [*_PAGE, 2]),
    "logits": (_FLOAT, [*_PAGE, 2]),
}


def wide_bundle(folder: Path) -> Bundle:
    """Write a bundle whose product vectors are 128 wide: factors times a random matrix."""
    random = np.random.default_rng(0)
    product = _graph(
        [helper.make_node("MatMul", ["factors", "P"], ["vectors"])],
        {"P": random.normal(size=(FACTORS, WIDTH)).astype(np.float32)},
        PRODUCT_INPUTS,
        VECTOR_OUTPUTS,
    )
    scorer = _graph(
        [
            helper.make_node("MatMul", ["candidate_vectors", "V"], ["from_products"]),
            helper.make_node("MatMul", ["dense", "W"], ["from_dense"]),
            helper.make_node("Add", ["from_products", "from_dense"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
        ],
        {
            "V": (random.normal(size=(WIDTH, 2)) / WIDTH).astype(np.float32),
            "W": np.full((4, 2), 0.1, np.float32),
        },
        SCORER_INPUTS,
        SCORER_OUTPUTS,
    )
    graphs = {"product.onnx": product, "query.onnx": query_graph(), "scorer.onnx": scorer}
    content: BundleContent = replace(
        tiny_content(),
        graphs=graphs,
        widths=Widths(product=WIDTH, query=2, factors=FACTORS),
        golden=_golden(graphs, random),
    )
    return write_bundle(folder, content)


def write_snapshot(folder: Path, products: int) -> None:
    """Write a snapshot of `products` products in bounded memory."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    factors = ColumnWriter(folder / "factors.npy", np.float32, (products, FACTORS))
    neighbours = ColumnWriter(folder / "neighbours.npy", np.int32, (products, NEIGHBOURS))
    weights = ColumnWriter(folder / "neighbour_weights.npy", np.float32, (products, NEIGHBOURS))
    with (folder / "products.jsonl").open("w", encoding="utf-8") as file:
        for start in range(0, products, BLOCK_ROWS):
            count = min(BLOCK_ROWS, products - start)
            file.writelines(_lines(start, count, random))
            factors.append(random.normal(size=(count, FACTORS)))
            neighbours.append(random.integers(0, products, (count, NEIGHBOURS)))
            weights.append(random.random((count, NEIGHBOURS)))
    for column in (factors, neighbours, weights):
        column.close()
    np.save(folder / "gram.npy", np.eye(FACTORS) * products)
    (folder / "snapshot.json").write_text(
        json.dumps({"format_version": 1, "as_of_day": AS_OF_DAY}), encoding="utf-8"
    )


def product_id(number: int) -> str:
    """Return the id of a product, such as 000000000042-7."""
    return f"{number:012d}-{number % 10}"


def _lines(start: int, count: int, random: np.random.Generator) -> Iterator[str]:
    prices = random.integers(1, 10_000, count)
    for number, price in zip(range(start, start + count), prices.tolist(), strict=True):
        kind = "milk" if number % 2 else "dog food"
        yield (
            f'{{"id": "{product_id(number)}", "text": "fresh {kind} {number % 997}",'
            f' "category": "{"dairy" if number % 2 else "pet"}", "category_path":'
            f' ["{kind}"], "brand": "Acme", "size": null, "columns":'
            f' {{"price": {price / 100}, "sales_28d": {number % 50}}}}}\n'
        )


def _golden(graphs: dict[str, bytes], random: np.random.Generator):
    tiny = tiny_golden(tiny_graph_bytes())
    rows = tiny.table.factors.shape[0]
    table = replace(
        tiny.table,
        factors=random.normal(size=(rows, FACTORS)).astype(np.float32),
        gram=np.eye(FACTORS),
    )
    golden = replace(tiny, table=table)
    functions: Graphs = tiny_graphs(graphs)
    encoder = TextEncoder(tiny_tokenizer())
    scored = [
        functions.scorer(scorer_inputs([page]))["probabilities"][0]
        for page in golden_scorer_pages(golden, SCHEMA, encoder, functions)
    ]
    return replace(golden, probabilities=tuple(scored))


def _graph(nodes, constants, inputs, outputs) -> bytes:
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info(name, *_LAYOUT[name]) for name in inputs if name in used],
        [helper.make_tensor_value_info(name, *_LAYOUT[name]) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    data: bytes = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    OnnxGraph(data, "wide", inputs, outputs, threads=1)  # refuses what cannot be loaded
    return data

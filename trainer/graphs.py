"""The three graphs of a bundle as Paddle layers, and their export to ONNX."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import paddle
from paddle import Tensor, nn
from paddle.static import InputSpec

from rerank_server.contract.graph_inputs import (
    PRODUCT_INPUTS,
    QUERY_INPUTS,
    SCORER_INPUTS,
    SCORER_OUTPUTS,
    VECTOR_OUTPUTS,
)
from trainer.errors import ExportError
from trainer.model.ranker import PageBatch, Ranker

if TYPE_CHECKING:
    import onnx

OPSET = 17


class ProductGraph(nn.Layer):
    """`product.onnx`: from what is known of products to their vectors."""

    def __init__(self, ranker: Ranker) -> None:
        """Share the towers of `ranker`."""
        super().__init__()
        self._text = ranker.text
        self._tower = ranker.products

    def forward(
        self,
        token_ids: Tensor,
        token_mask: Tensor,
        category: Tensor,
        levels: Tensor,
        attributes: Tensor,
        identity: Tensor,
        factors: Tensor,
        factors_present: Tensor,
    ) -> Tensor:
        """Return vectors, shape (products, width)."""
        text = self._text(token_ids, token_mask)
        vectors: Tensor = self._tower(
            text, category, levels, attributes, identity, factors, factors_present
        )
        return vectors


class QueryGraph(nn.Layer):
    """`query.onnx`: from tokens to the query vector."""

    def __init__(self, ranker: Ranker) -> None:
        """Share the towers of `ranker`."""
        super().__init__()
        self._text = ranker.text
        self._tower = ranker.query

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """Return vectors, shape (queries, width)."""
        vectors: Tensor = self._tower(self._text(token_ids, token_mask))
        return vectors


class ScorerGraph(nn.Layer):
    """`scorer.onnx`: from the vectors and numbers of pages to calibrated probabilities."""

    def __init__(self, ranker: Ranker) -> None:
        """Share the scorer of `ranker`."""
        super().__init__()
        self._scorer = ranker.scorer
        self._calibration = ranker.calibration

    def forward(  # noqa: PLR0913, PLR0917  the inputs of the graph
        self,
        query_vector: Tensor,
        surface: Tensor,
        candidate_vectors: Tensor,
        candidate_mask: Tensor,
        categories: Tensor,
        dense: Tensor,
        sequence_vectors: Tensor,
        sequence_features: Tensor,
        sequence_mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return probabilities and logits, each (pages, candidates, objectives)."""
        page = PageBatch(
            query=query_vector,
            surface=surface,
            candidates=candidate_vectors,
            mask=candidate_mask,
            categories=categories,
            dense=dense,
            sequence=sequence_vectors,
            sequence_features=sequence_features,
            sequence_mask=sequence_mask,
        )
        logits = self._scorer(page)
        return self._calibration(logits, categories), logits


def export_graphs(ranker: Ranker, features: int, event_features: int) -> dict[str, bytes]:
    """Return the serialised ONNX graphs by file name."""
    sizes = ranker.sizes
    width, products = sizes.width, sizes.products

    def floats(name: str, *shape: int | None) -> InputSpec:
        return InputSpec(list(shape), "float32", name)

    def integers(name: str, *shape: int | None) -> InputSpec:
        return InputSpec(list(shape), "int64", name)

    tokens = [integers("token_ids", None, None), floats("token_mask", None, None)]
    product_specs = [
        *tokens,
        integers("category", None),
        integers("levels", None, len(products.levels)),
        integers("attributes", None, len(products.attributes)),
        integers("identity", None),
        floats("factors", None, products.factors),
        floats("factors_present", None),
    ]
    scorer_specs = [
        floats("query_vector", None, width),
        integers("surface", None),
        floats("candidate_vectors", None, None, width),
        floats("candidate_mask", None, None),
        integers("categories", None, None),
        floats("dense", None, None, features),
        floats("sequence_vectors", None, None, width),
        floats("sequence_features", None, None, event_features),
        floats("sequence_mask", None, None),
    ]
    was_training = ranker.training
    ranker.eval()
    graphs = {
        "product.onnx": _export(
            ProductGraph(ranker), product_specs, PRODUCT_INPUTS, VECTOR_OUTPUTS
        ),
        "query.onnx": _export(QueryGraph(ranker), tokens, QUERY_INPUTS, VECTOR_OUTPUTS),
        "scorer.onnx": _export(ScorerGraph(ranker), scorer_specs, SCORER_INPUTS, SCORER_OUTPUTS),
    }
    if was_training:
        ranker.train()
    return graphs


def _export(
    layer: nn.Layer, specs: list[InputSpec], inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> bytes:
    """Trace a layer, convert it, and give inputs and outputs the names of the contract."""
    import onnx  # noqa: PLC0415  heavy, and wanted by exports alone
    import paddle2onnx  # noqa: PLC0415

    layer.eval()
    with (
        tempfile.TemporaryDirectory(prefix="crossrank-export-") as folder,
        output_captured(Path(folder) / "output.txt") as output,
    ):
        prefix = str(Path(folder) / "graph")
        traced = paddle.jit.to_static(layer, input_spec=specs, full_graph=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Tensor do not have 'place'", UserWarning)
            paddle.jit.save(traced, prefix)
        path = Path(folder) / "graph.onnx"
        try:
            # no optimiser: onnxruntime folds constants itself when it loads a graph, and
            # polygraphy would install what it misses with pip
            paddle2onnx.export(
                f"{prefix}.json",
                f"{prefix}.pdiparams",
                str(path),
                opset_version=OPSET,
                optimize_tool=None,
            )
            model = onnx.load(str(path))
        except (RuntimeError, OSError, UnboundLocalError) as error:
            # the converter prints what is wrong, and stumbles over the graph it did not make
            raise ExportError(
                f"{type(layer).__name__}: got no graph, want one; paddle2onnx said: "
                f"{output.read_text(errors='replace')[-2000:]}"
            ) from error
    names = [entry.name for entry in model.graph.input]
    if set(names) != set(inputs):
        raise ExportError(f"inputs of the graph: got {names}, want {list(inputs)}")
    if len(model.graph.output) != len(outputs):
        raise ExportError(
            f"outputs of the graph: got {len(model.graph.output)}, want {len(outputs)}"
        )
    _rename_outputs(model, outputs)
    _drop_unused_constants(model)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@contextmanager
def output_captured(path: Path) -> Iterator[Path]:
    """Send what libraries print, in Python or below it, to `path` while the block runs."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with path.open("w", buffering=1, encoding="utf-8", errors="replace") as file:
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            with redirect_stdout(file), redirect_stderr(file):
                yield path
        finally:
            for descriptor, original in zip((1, 2), kept, strict=True):
                os.dup2(original, descriptor)
                os.close(original)


def _rename_outputs(model: onnx.ModelProto, outputs: tuple[str, ...]) -> None:
    """Give the outputs the names of the contract; the converter numbers them."""
    graph = model.graph
    new = {entry.name: name for entry, name in zip(graph.output, outputs, strict=True)}
    for entry in graph.output:
        entry.name = new[entry.name]
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = new.get(name, name)


def _drop_unused_constants(model: onnx.ModelProto) -> None:
    """Drop constants that no node reads; onnxruntime warns of each."""
    graph = model.graph
    read = {name for node in graph.node for name in node.input}
    read |= {entry.name for entry in graph.output}
    for constant in [entry for entry in graph.initializer if entry.name not in read]:
        graph.initializer.remove(constant)

"""The three graphs of a bundle as Paddle layers, and their export to ONNX."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import paddle
from paddle import Tensor, nn
from paddle.nn import functional
from paddle.static import InputSpec

from rerank_server.contract.graph_inputs import (
    PRODUCT_INPUTS,
    QUERY_INPUTS,
    SCORER_INPUTS,
    SCORER_OUTPUTS,
    VECTOR_OUTPUTS,
    vector_inputs,
)
from trainer.baselines.tree_nodes import TREE_LOGITS, with_tree_term
from trainer.encoding.sentence_encoder import TEXT, SentenceEncoder, with_sentences
from trainer.errors import ExportError
from trainer.export.product_graphs import product_layer, query_layer, text_inputs
from trainer.model.ranker import PageBatch, Ranker

if TYPE_CHECKING:
    import onnx

OPSET = 17


class ScorerGraph(nn.Layer):
    """`scorer.onnx`: from the vectors and numbers of pages to what is served: probabilities."""

    def __init__(self, ranker: Ranker) -> None:
        """Share the scorer and the calibration of `ranker`."""
        super().__init__()
        self._scorer = ranker.scorer
        self._calibration = ranker.calibration
        self._outputs = ranker.outputs
        self._categories = ranker.sizes.products.categories
        term = ranker.tree_term
        self._mixes = term is not None and not term.keeps_network
        if term is not None and self._mixes:
            network = term.network.reshape(-1, ranker.sizes.objectives)
            self.register_buffer("_network", paddle.to_tensor(network))

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
        tree_logits: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return what is served and logits, each (pages, candidates, objectives)."""
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
        if self._mixes:
            cells = surface.unsqueeze(1) * self._categories + categories
            logits = logits * functional.embedding(cells, self._network)
        if tree_logits is not None:
            logits = logits + tree_logits
        served = self._calibration(logits, categories)
        if self._outputs is not None:
            served = self._outputs(served, logits)
        return served, logits


def export_graphs(
    ranker: Ranker,
    features: int,
    event_features: int,
    sentences: SentenceEncoder | None = None,
) -> dict[str, bytes]:
    """Return the serialised ONNX graphs by file name, `sentences` put before those that read texts.

    Raises:
        ExportError: When one cannot be converted, or joined with the sentence encoder.
    """
    sizes = ranker.sizes
    width, products = sizes.width, sizes.products

    def floats(name: str, *shape: int | None) -> InputSpec:
        return InputSpec(list(shape), "float32", name)

    def integers(name: str, *shape: int | None) -> InputSpec:
        return InputSpec(list(shape), "int64", name)

    tokens = [integers("token_ids", None, None), floats("token_mask", None, None)]
    product_names: tuple[str, ...] = PRODUCT_INPUTS
    query_names: tuple[str, ...] = QUERY_INPUTS
    if ranker.text is None:
        tokens = [floats(TEXT, None, products.text)]
        product_names, query_names = text_inputs(PRODUCT_INPUTS), text_inputs(QUERY_INPUTS)
    product_specs: list[InputSpec | list[InputSpec]] = [
        *tokens,
        integers("category", None),
        integers("levels", None, len(products.levels)),
        integers("attributes", None, len(products.attributes)),
        integers("identity", None),
        floats("factors", None, products.factors),
        floats("factors_present", None),
    ]
    if products.vectors:
        names = vector_inputs(products.vectors)
        shapes = [shape for spec in products.vectors for shape in ((None, spec.width), (None,))]
        product_specs.append(
            [floats(name, *shape) for name, shape in zip(names, shapes, strict=True)]
        )
        product_names += names
    scorer_specs: list[InputSpec | list[InputSpec]] = [
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
    term = ranker.tree_term
    scorer_names: tuple[str, ...] = SCORER_INPUTS
    if term is not None:
        scorer_specs.append(floats(TREE_LOGITS, None, None, ranker.sizes.objectives))
        scorer_names = (*SCORER_INPUTS, TREE_LOGITS)
    was_training = ranker.training
    ranker.eval()
    graphs = convert_layers(
        {
            "product.onnx": GraphLayer(
                product_layer(ranker), product_specs, product_names, VECTOR_OUTPUTS
            ),
            "query.onnx": GraphLayer(query_layer(ranker), tokens, query_names, VECTOR_OUTPUTS),
            "scorer.onnx": GraphLayer(
                ScorerGraph(ranker), scorer_specs, scorer_names, SCORER_OUTPUTS
            ),
        }
    )
    if term is not None:
        graphs["scorer.onnx"] = with_tree_term(graphs["scorer.onnx"], term)
    if sentences is not None:
        for name in ("product.onnx", "query.onnx"):
            graphs[name] = with_sentences(graphs[name], sentences)
    if was_training:
        ranker.train()
    return graphs


@dataclass(frozen=True, slots=True)
class GraphLayer:
    """A layer to be converted.

    Attributes:
        layer: In evaluation mode.
        specs: Shape, type and name of each input.
        inputs: The names of the inputs, by the contract.
        outputs: The names of the outputs, in order.
    """

    layer: nn.Layer
    specs: Sequence[InputSpec | list[InputSpec]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


# In a process of its own, since paddle2onnx ends its process when it cannot convert a layer.
# Without its optimiser: onnxruntime folds constants itself when it loads a graph, and
# polygraphy, which would fold them here, installs what it misses with pip.
_CONVERT = f"""
import sys
import paddle2onnx
for prefix in sys.argv[1:]:
    paddle2onnx.export(
        f"{{prefix}}.json", f"{{prefix}}.pdiparams", f"{{prefix}}.onnx",
        opset_version={OPSET}, optimize_tool=None, verbose=True,
    )
"""


def convert_layers(layers: Mapping[str, GraphLayer]) -> dict[str, bytes]:
    """Trace and convert layers, and return the serialised ONNX graphs by file name.

    Raises:
        ExportError: When one cannot be converted, with what the converter said, or has other
            inputs or outputs.
    """
    import onnx  # noqa: PLC0415  heavy, and wanted by exports alone

    with tempfile.TemporaryDirectory(prefix="crossrank-export-") as folder:
        prefixes = {name: str(Path(folder) / Path(name).stem) for name in layers}
        with output_captured(Path(folder) / "tracing.txt"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Tensor do not have 'place'", UserWarning)
            for name, graph in layers.items():
                graph.layer.eval()
                traced = paddle.jit.to_static(graph.layer, input_spec=graph.specs, full_graph=True)
                paddle.jit.save(traced, prefixes[name])
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _CONVERT, *prefixes.values()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode != 0:
            said = done.stdout.decode(errors="replace")[-4000:]
            raise ExportError(
                f"graphs: got exit status {done.returncode} from paddle2onnx, want 0; it said: "
                f"{said}"
            )
        models = {name: onnx.load(f"{prefix}.onnx") for name, prefix in prefixes.items()}
    return {
        name: _as_contracted(models[name], graph.inputs, graph.outputs)
        for name, graph in layers.items()
    }


def _as_contracted(
    model: onnx.ModelProto, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> bytes:
    """Check inputs and outputs, and give the outputs the names of the contract."""
    import onnx  # noqa: PLC0415

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
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        if read.isdisjoint(node.output):
            graph.node.remove(node)

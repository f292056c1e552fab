"""The graphs of a bundle in onnxruntime, on a GPU where there is one."""

from __future__ import annotations

from typing import TypeAlias, cast

import onnxruntime as ort

from rerank_server.contract.bundle import Bundle
from rerank_server.contract.errors import BundleError
from rerank_server.contract.golden import Graphs, replay_golden
from rerank_server.contract.graph_inputs import (
    PRODUCT_INPUTS,
    QUERY_INPUTS,
    SCORER_INPUTS,
    SCORER_OUTPUTS,
    VECTOR_OUTPUTS,
    Arrays,
    vector_inputs,
)
from rerank_server.contract.page import Floats

# As onnxruntime takes them: names, or names with options.
Providers: TypeAlias = list[str | tuple[str, dict[str, str]]]
_NAMES = {
    "product.onnx": (PRODUCT_INPUTS, VECTOR_OUTPUTS),
    "query.onnx": (QUERY_INPUTS, VECTOR_OUTPUTS),
    "scorer.onnx": (SCORER_INPUTS, SCORER_OUTPUTS),
}


class OnnxGraph:
    """One graph as a function from arrays by name to arrays by name; may be shared by threads."""

    def __init__(
        self,
        data: bytes,
        name: str,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        *,
        threads: int,
        providers: Providers | None = None,
    ) -> None:
        """Load a serialised graph.

        Args:
            data: The graph.
            name: What an error calls it.
            inputs: Names it may read; an exporter leaves out those that change nothing.
            outputs: Names it must give.
            threads: Threads of one call.
            providers: What may run it, best first; None takes a GPU where there is one.

        Raises:
            BundleError: When it cannot be loaded, or reads or gives other names.
        """
        self._session = open_session(data, name, threads=threads, providers=providers)
        self._inputs = tuple(item.name for item in self._session.get_inputs())
        given = {item.name for item in self._session.get_outputs()}
        if unknown := set(self._inputs) - set(inputs):
            raise BundleError(f"{name}: got inputs {sorted(unknown)}, want some of {inputs}")
        if missing := set(outputs) - given:
            raise BundleError(f"{name}: got outputs {sorted(given)}, want {sorted(missing)} too")
        self._outputs = outputs

    def __call__(self, arrays: Arrays) -> dict[str, Floats]:
        """Run the graph."""
        values = self._session.run(
            list(self._outputs), {name: arrays[name] for name in self._inputs}
        )
        return dict(zip(self._outputs, values, strict=True))

    @property
    def provider(self) -> str:
        """The execution provider that runs it."""
        return cast("str", self._session.get_providers()[0])


def open_session(
    data: bytes, name: str, *, threads: int, providers: Providers | None = None
) -> ort.InferenceSession:
    """Load a serialised graph into onnxruntime; arguments as in `OnnxGraph`.

    Raises:
        BundleError: When it cannot be loaded.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only; they reach us as exceptions
    # Threads that spin between calls starve the event loop on a small machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(data, options, providers=providers or _providers())
    except Exception as error:  # onnxruntime's errors share no base class
        raise BundleError(f"{name}: got {error}, want a graph onnxruntime can load") from error


def open_graph(bundle: Bundle, name: str, *, threads: int) -> OnnxGraph:
    """Load one graph of a bundle, by its file name.

    Raises:
        BundleError: When it cannot be loaded.
    """
    inputs, outputs = _NAMES[name]
    if name == "product.onnx":
        inputs += vector_inputs(bundle.schema.vectors)
    return OnnxGraph(bundle.graphs[name], name, inputs, outputs, threads=threads)


def open_graphs(bundle: Bundle, *, threads: int) -> Graphs:
    """Load the three graphs of a bundle.

    Raises:
        BundleError: When one cannot be loaded.
    """
    return Graphs(
        product=open_graph(bundle, "product.onnx", threads=threads),
        query=open_graph(bundle, "query.onnx", threads=threads),
        scorer=open_graph(bundle, "scorer.onnx", threads=threads),
    )


def check_golden(bundle: Bundle, graphs: Graphs) -> float:
    """Replay the golden pages and return the largest difference to Paddle's scores.

    Raises:
        BundleError: When it is above the bundle's tolerance.
    """
    try:
        difference = replay_golden(bundle.golden, bundle.schema, bundle.text_encoder, graphs)
    except Exception as error:  # onnxruntime's errors share no base class
        raise BundleError(f"golden pages: got {error}, want scores from the graphs") from error
    if not difference <= bundle.manifest.tolerance:
        raise BundleError(
            f"golden pages: got a difference of {difference:.3g} to the trainer's scores,"
            f" want at most {bundle.manifest.tolerance:.3g}"
        )
    return difference


def _providers() -> Providers:
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    available = ort.get_available_providers()
    return [provider for provider in wanted if provider in available]

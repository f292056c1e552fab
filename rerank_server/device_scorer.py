"""Scores pages with inputs, outputs and product vectors bound to one device.

Calls have one of few shapes, so that a device prepares each once: sizes are rounded up and padded
with masked zeros. The same code runs with tensors of the CPU, and is tested that way.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort

from rerank_server.contract.bundle import Bundle
from rerank_server.contract.errors import BundleError, RerankError
from rerank_server.contract.golden import (
    Graphs,
    golden_scorer_pages,
    score_difference,
    score_scales,
)
from rerank_server.contract.graph_inputs import Arrays, ScorerPage, page_shape, scorer_inputs
from rerank_server.contract.page import Floats
from rerank_server.device_products import DeviceProducts
from rerank_server.gather_graph import PARTS, gather_graph
from rerank_server.onnx_graph import Providers, open_session
from rerank_server.product_store import ProductStore
from rerank_server.product_vectors import held_as
from rerank_server.scorer import ScorerError

DEVICES = ("auto", "cpu", "cpu-bound", "cuda", "tensorrt", "tensorrt-fp16")
CANDIDATE_SIZES = (16, 64, 128, 256, 512, 1_000)
PAGE_SIZES = (1, 2, 4, 8, 16)
# What half precision may change of a probability on the golden pages.
HALF_TOLERANCE = 5e-3
_CUDA, _TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
_CPU = "CPUExecutionProvider"
_LOG = logging.getLogger(__name__)


class DeviceError(RerankError):
    """A device that is unknown or not there."""


def providers_of(device: str) -> Providers:
    """Return what onnxruntime is to run a scorer with on `device`, best first.

    Raises:
        DeviceError: When this onnxruntime has no such provider.
    """
    if device not in DEVICES:
        raise DeviceError(f"device: got {device!r}, want one of {', '.join(DEVICES)}")
    available = ort.get_available_providers()
    # TF32 would round inputs to 10 bits: golden pages would differ
    cuda = (_CUDA, {"use_tf32": "0"})
    if device == "auto":
        return [cuda, _CPU] if _CUDA in available else [_CPU]
    if device.startswith("cpu"):
        return [_CPU]
    wanted = _CUDA if device == "cuda" else _TENSORRT
    if wanted not in available:
        raise DeviceError(
            f"device: got {device}, want one of what onnxruntime offers here:"
            f" {', '.join(available)} (`pip install 'crossrank[gpu]'` for a GPU)"
        )
    if device == "cuda":
        return [cuda, _CPU]
    half = str(int(device == "tensorrt-fp16"))
    return [(_TENSORRT, {"trt_fp16_enable": half}), cuda, _CPU]


class DeviceScorer:
    """Scores pages with `scorer.onnx` bound to one device; may be shared by threads."""

    def __init__(self, bundle: Bundle, device: str, *, threads: int) -> None:
        """Load the scorer and the graphs that read vectors by row.

        Raises:
            DeviceError: When the device is unknown or not there.
            BundleError: When the graph cannot be loaded.
        """
        providers = providers_of(device)
        data = bundle.graphs["scorer.onnx"]
        self._session = open_session(data, "scorer.onnx", threads=threads, providers=providers)
        self._provider = str(self._session.get_providers()[0])
        if self._provider == _CPU and device not in {"auto", "cpu", "cpu-bound"}:
            raise DeviceError(
                f"device: got {device}, but onnxruntime could not open it; want its driver and"
                " libraries"
            )
        self.device = "cpu" if self._provider == _CPU else "cuda"
        gathering: Providers = [_CPU] if self.device == "cpu" else [_CUDA, _CPU]
        self._gather = {
            kind: open_session(gather_graph(kind), "gather", threads=1, providers=gathering)
            for kind in ("float32", "float16", "int8")
        }
        self._threads = threads
        self._events = bundle.schema.sequence_length
        self._width = bundle.manifest.widths.product
        self._objectives = len(bundle.schema.objectives)
        self._lock = threading.Lock()
        self._slots: dict[tuple[int, int, int], list[_Slot]] = {}

    @property
    def provider(self) -> str:
        """The execution provider that runs it."""
        return self._provider

    @property
    def threads(self) -> int:
        """Threads of one call."""
        return self._threads

    def score(self, pages: Sequence[ScorerPage]) -> list[Floats]:
        """Return probabilities, shape (candidates, objectives), for each page.

        Raises:
            ScorerError: When onnxruntime fails.
        """
        shape = self._rounded(page_shape(pages))
        slot = self._take(shape)
        try:
            arrays = scorer_inputs(pages, shape)
            held = pages[0].held_in
            if isinstance(held, DeviceProducts) and all(page.held_in is held for page in pages):
                self._read_vectors(slot, held, pages, arrays)
            probabilities = self._run(slot, arrays)
        except Exception as error:  # onnxruntime's errors share no base class
            raise ScorerError(f"scorer.onnx: got {error}, want probabilities") from error
        finally:
            with self._lock:
                self._slots[shape].append(slot)
        return [probabilities[index, : page.size] for index, page in enumerate(pages)]

    def _rounded(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        pages, candidates, events = shape
        return (
            next((size for size in PAGE_SIZES if size >= pages), pages),
            next((size for size in CANDIDATE_SIZES if size >= candidates), candidates),
            1 if events == 1 else max(self._events, events),
        )

    def _take(self, shape: tuple[int, int, int]) -> _Slot:
        """Return bound memory for a call that no other call uses meanwhile."""
        with self._lock:
            free = self._slots.setdefault(shape, [])
            if free:
                return free.pop()
        pages, candidates, _ = shape
        output = np.zeros((pages, candidates, self._objectives), np.float32)
        binding = self._session.io_binding()
        value = ort.OrtValue.ortvalue_from_numpy(output, self.device, 0)
        binding.bind_ortvalue_output("probabilities", value)
        return _Slot(binding, value)

    def _read_vectors(
        self, slot: _Slot, held: DeviceProducts, pages: Sequence[ScorerPage], arrays: Arrays
    ) -> None:
        """Let the device fill the vectors of `pages`, and take them out of `arrays`."""
        session = self._gather[held.kind]
        binding = session.io_binding()
        for name, value in held.values.items():
            binding.bind_ortvalue_input(name, value)
        for part in PARTS:
            vectors, mask = f"{part}_vectors", f"{part}_mask"
            rows = np.zeros(arrays[mask].shape, np.int64)
            for index, page in enumerate(pages):
                given = page.candidate_rows if part == "candidate" else page.sequence_rows
                if given is not None:
                    rows[index, : given.shape[0]] = given
            slot.put(mask, arrays[mask], self.device)
            slot.put(f"{part}_rows", rows, self.device)
            if vectors not in slot.values:
                slot.put(vectors, arrays[vectors], self.device)
            for name in (f"{part}_rows", mask):
                binding.bind_ortvalue_input(name, slot.values[name])
            binding.bind_ortvalue_output(vectors, slot.values[vectors])
            del arrays[vectors]
        session.run_with_iobinding(binding)

    def _run(self, slot: _Slot, arrays: Arrays) -> Floats:
        for item in self._session.get_inputs():
            if item.name in arrays:
                slot.put(item.name, arrays[item.name], self.device)
            slot.binding.bind_ortvalue_input(item.name, slot.values[item.name])
        self._session.run_with_iobinding(slot.binding)
        # numpy() may be a view of the slot, which the next call writes over
        result: Floats = np.array(slot.output.numpy())
        return result


@dataclass(eq=False, slots=True)
class _Slot:
    """The bound memory of one call.

    Attributes:
        binding: Of the scorer.
        output: Its probabilities.
        values: Its inputs, by name.
    """

    binding: Any
    output: Any
    values: dict[str, Any] = field(default_factory=dict)

    def put(self, name: str, array: np.ndarray, device: str) -> None:
        """Copy an array to where the input lies, which stays where it was."""
        if name in self.values:
            self.values[name].update_inplace(array)
        else:
            self.values[name] = ort.OrtValue.ortvalue_from_numpy(array, device, 0)


def check_device(bundle: Bundle, graphs: Graphs, scorer: DeviceScorer, kind: str) -> float:
    """Score the golden pages by row numbers and return the largest difference to Paddle's scores.

    Vectors stored as anything but float32, and half precision, have a tolerance of their own.

    Raises:
        BundleError: When it is above the tolerance.
    """
    largest = 0.0
    scales = score_scales(bundle.golden)
    pages = golden_scorer_pages(bundle.golden, bundle.schema, bundle.text_encoder, graphs)
    for page, expected in zip(pages, bundle.golden.probabilities, strict=True):
        vectors = np.concatenate([page.candidate_vectors, page.sequence_vectors])
        held = DeviceProducts(held_as(vectors, kind), None, scorer.device)
        rows = np.arange(vectors.shape[0], dtype=np.int32)
        got = scorer.score(
            [
                ScorerPage(
                    query_vector=page.query_vector,
                    surface=page.surface,
                    candidate_vectors=page.candidate_vectors,
                    categories=page.categories,
                    dense=page.dense,
                    sequence_vectors=page.sequence_vectors,
                    sequence_features=page.sequence_features,
                    held_in=held,
                    candidate_rows=rows[: page.size],
                    sequence_rows=rows[page.size :],
                )
            ]
        )[0]
        largest = max(largest, score_difference(got, expected, scales))
    exact = kind == "float32" and scorer.provider != _TENSORRT
    tolerance = bundle.manifest.tolerance if exact else HALF_TOLERANCE
    if not largest <= tolerance:
        raise BundleError(
            f"golden pages on {scorer.provider}, {kind} vectors: got a difference of {largest:.3g}"
            f" to the trainer's scores, want at most {tolerance:.3g}"
        )
    return largest


def open_device(
    bundle: Bundle, graphs: Graphs, products: ProductStore, device: str, *, threads: int
) -> DeviceScorer | None:
    """Return a scorer bound to `device`; None where a plain CPU is to score, which is faster there.

    Raises:
        DeviceError: When the device is unknown or not there.
        BundleError: When its scores of the golden pages differ by too much.
    """
    if providers_of(device)[0] == _CPU and device != "cpu-bound":
        return None
    scorer = DeviceScorer(bundle, device, threads=threads)
    if scorer.device == "cpu" and device != "cpu-bound":
        _LOG.warning("no GPU could be opened, the CPU scores")
        return None
    kind = products.manifest.vectors if products.manifest is not None else "float32"
    difference = check_device(bundle, graphs, scorer, kind)
    fields = {"provider": scorer.provider, "vectors": kind, "golden_difference": difference}
    _LOG.info("scorer bound to a device", extra={"fields": fields})
    return scorer

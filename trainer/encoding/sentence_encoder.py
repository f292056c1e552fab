"""Texts to vectors with any ONNX sentence encoder, in training and inside the bundle's graphs.

The encoder's graph gets the inputs that every graph of a bundle has for texts, `token_ids` and
`token_mask`, and mean pooling to unit length behind it (Reimers and Gurevych 2019, section 3); the
one graph gives the vectors of training and is put before product and query tower when they are
exported, so that a server needs nothing besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from tqdm import tqdm

from rerank_server.contract.errors import RerankError
from rerank_server.contract.page import Floats
from rerank_server.contract.text import TextEncoder, TextSettings
from trainer.errors import ExportError, LogFileError

if TYPE_CHECKING:
    import onnx

TEXT = "text"
_BATCH = 64
_PREFIX = "sentence/"
_OPSETS = (13, 22)
_IDS = ("input_ids", "ids", "tokens")
_MASKS = ("attention_mask", "mask")
_TYPES = ("token_type_ids", "segment_ids")
_OUTPUTS = ("sentence_embedding", "last_hidden_state", "token_embeddings")


@dataclass(frozen=True, slots=True)
class SentenceEncoder:
    """A sentence encoder with its tokeniser.

    Attributes:
        graph: From `token_ids` and `token_mask` to `text`, vectors of unit length; serialised.
        tokenizer: A `tokenizer.json` of the `tokenizers` library.
        settings: How texts become its tokens.
        width: Numbers in a vector.
        session: The graph in onnxruntime.
    """

    graph: bytes
    tokenizer: bytes
    settings: TextSettings
    width: int
    session: onnxruntime.InferenceSession

    def vectors(self, texts: Sequence[str], *, progress: bool = False) -> Floats:
        """Return the vector of each text, shape (texts, width); zeros for an empty one."""
        encoder = TextEncoder(self.tokenizer, self.settings)
        # texts of like length share a batch, so that little of it is padding
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        vectors = np.zeros((len(texts), self.width), np.float32)
        starts = range(0, len(order), _BATCH)
        for start in tqdm(starts, desc="Texts", unit="batch", disable=not progress):
            rows = order[start : start + _BATCH]
            vectors[rows] = self.encode(*encoder.encode([texts[row] for row in rows]))
        return vectors

    def encode(
        self, token_ids: npt.NDArray[np.generic], token_mask: npt.NDArray[np.generic]
    ) -> Floats:
        """Return the vectors of tokenised texts."""
        inputs = {"token_ids": token_ids, "token_mask": token_mask}
        return np.asarray(self.session.run([TEXT], inputs)[0])


def read_sentence_encoder(model: Path, tokenizer: Path, max_tokens: int) -> SentenceEncoder:
    """Read an ONNX sentence encoder and the tokeniser it was trained with.

    Its output is the vectors of tokens, which are averaged, or one vector per text.

    Raises:
        LogFileError: A file is missing or is no such thing, or the encoder wants other inputs.
    """
    import onnx  # noqa: PLC0415  heavy, and wanted by few logs

    for path in (model, tokenizer):
        if not path.is_file():
            raise LogFileError(f"text_encoder: got no file {path}, want one")
    settings = TextSettings(max_tokens, special_tokens=True)
    try:
        loaded = onnx.load(str(model))
        raw = loaded.SerializeToString()
        session = onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"])
        data = tokenizer.read_bytes()
        TextEncoder(data, settings)
    except (RerankError, Exception) as error:  # the libraries raise bare Exception
        raise LogFileError(
            f"text_encoder: got {model.name} and {tokenizer.name} that cannot be read, want an"
            f" ONNX graph with its weights in one file, and a tokenizer.json: {error}"
        ) from error
    rank = _rank(session, model)
    graph = _pooled(loaded, session, rank)
    serialised = graph.SerializeToString()
    pooled = onnxruntime.InferenceSession(serialised, providers=["CPUExecutionProvider"])
    encoder = TextEncoder(data, settings)
    probe = encoder.encode(["a text", ""])
    try:
        got = pooled.run([TEXT], dict(zip(("token_ids", "token_mask"), probe, strict=True)))[0]
    except Exception as error:  # onnxruntime's errors share no base class
        raise LogFileError(f"text_encoder: got {error}, want vectors of texts") from error
    if got.ndim != 2 or not np.isfinite(got).all():  # noqa: PLR2004 - texts and numbers
        raise LogFileError(
            f"text_encoder: got vectors {got.shape}, finite: {bool(np.isfinite(got).all())}, want"
            " finite ones of shape (texts, width)"
        )
    return SentenceEncoder(serialised, data, settings, int(got.shape[1]), pooled)


def with_sentences(graph: bytes, sentences: SentenceEncoder) -> bytes:
    """Return a graph that reads `text` as one that reads tokens, the encoder put before it.

    Raises:
        ExportError: When the two cannot be brought to one version of the operators.
    """
    import onnx  # noqa: PLC0415
    from onnx import compose  # noqa: PLC0415

    before = onnx.load_model_from_string(sentences.graph)
    after = onnx.load_model_from_string(graph)
    opset = max(_opset(before), _opset(after))
    try:
        parts = [_at_opset(part, opset) for part in (before, after)]
        version = max(part.ir_version for part in parts)
        for part in parts:
            part.ir_version = version
        merged = compose.merge_models(parts[0], parts[1], io_map=[(TEXT, TEXT)])
        onnx.checker.check_model(merged)
    except Exception as error:  # the library raises bare Exception
        raise ExportError(
            f"text_encoder: got {error}, want an encoder that joins the network's graph of opset"
            f" {_opset(after)}"
        ) from error
    return bytes(merged.SerializeToString())


def _opset(model: onnx.ModelProto) -> int:
    return next(int(item.version) for item in model.opset_import if item.domain in {"", "ai.onnx"})


def _at_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    from onnx import version_converter  # noqa: PLC0415

    if _opset(model) == opset:
        return model
    return version_converter.convert_version(model, opset)


def _rank(session: onnxruntime.InferenceSession, model: Path) -> int:
    """Return the number of dimensions of the encoder's output, found by running it."""
    inputs: dict[str, Any] = {}
    for entry in session.get_inputs():
        if entry.name not in {*_IDS, *_MASKS, *_TYPES}:
            raise LogFileError(
                f"text_encoder: {model.name}: got an input {entry.name!r}, want"
                f" {_IDS[0]}, {_MASKS[0]} and {_TYPES[0]} alone"
            )
        kind = np.int32 if entry.type == "tensor(int32)" else np.int64
        inputs[entry.name] = np.ones((1, 2), kind)
    if not set(inputs) & set(_IDS):
        raise LogFileError(f"text_encoder: {model.name}: got no input {_IDS[0]!r}, want one")
    try:
        got = session.run([_output(session)], inputs)[0]
    except Exception as error:  # onnxruntime's errors share no base class
        raise LogFileError(f"text_encoder: {model.name}: got {error}, want vectors") from error
    if got.ndim not in {2, 3}:
        raise LogFileError(
            f"text_encoder: {model.name}: got an output of shape {got.shape}, want vectors of"
            " tokens or of texts"
        )
    return int(got.ndim)


def _output(session: onnxruntime.InferenceSession) -> str:
    names = [entry.name for entry in session.get_outputs()]
    return next((name for name in _OUTPUTS if name in names), names[0])


def _pooled(
    model: onnx.ModelProto, session: onnxruntime.InferenceSession, rank: int
) -> onnx.ModelProto:
    """Return the encoder with the inputs of a bundle's graphs and pooling behind it."""
    from onnx import TensorProto, compose, helper, numpy_helper  # noqa: PLC0415

    low, high = _OPSETS
    if not low <= _opset(model) <= high:
        model = _at_opset(model, min(max(_opset(model), low), high))
    output = _output(session)
    inner = compose.add_prefix(model, _PREFIX)
    graph = inner.graph
    kinds = {entry.name: entry.type.tensor_type.elem_type for entry in graph.input}
    # a text without tokens would be attention to nothing: there the encoder may see the padding,
    # which pooling leaves out
    before = [
        helper.make_node("ReduceSum", ["token_mask", "pool/1"], ["pool/count"], keepdims=1),
        helper.make_node("Min", ["pool/count", "pool/one"], ["pool/any"]),
        helper.make_node("Sub", ["pool/one", "pool/any"], ["pool/none"]),
        helper.make_node("Add", ["token_mask", "pool/none"], ["pool/attended"]),
        helper.make_node("Sub", ["token_ids", "token_ids"], ["pool/zeros"]),
    ]
    sources = dict.fromkeys(_IDS, "token_ids") | dict.fromkeys(_MASKS, "pool/attended")
    sources |= dict.fromkeys(_TYPES, "pool/zeros")
    before += [
        helper.make_node("Cast", [sources[name.removeprefix(_PREFIX)]], [name], to=kind)
        for name, kind in kinds.items()
    ]
    hidden = f"{_PREFIX}{output}"
    after = [helper.make_node("Cast", [hidden], ["pool/hidden"], to=TensorProto.FLOAT)]
    if rank == 3:  # noqa: PLR2004 - texts, tokens, numbers
        after += [
            helper.make_node("Unsqueeze", ["token_mask", "pool/2"], ["pool/mask"]),
            helper.make_node("Mul", ["pool/hidden", "pool/mask"], ["pool/kept"]),
            helper.make_node("ReduceSum", ["pool/kept", "pool/1"], ["pool/total"], keepdims=0),
        ]
    else:
        after += [helper.make_node("Mul", ["pool/hidden", "pool/any"], ["pool/total"])]
    after += [
        helper.make_node("Mul", ["pool/total", "pool/total"], ["pool/squares"]),
        helper.make_node("ReduceSum", ["pool/squares", "pool/1"], ["pool/square"], keepdims=1),
        helper.make_node("Add", ["pool/square", "pool/tiny"], ["pool/positive"]),
        helper.make_node("Sqrt", ["pool/positive"], ["pool/length"]),
        helper.make_node("Div", ["pool/total", "pool/length"], [TEXT]),
    ]
    constants: dict[str, np.ndarray] = {
        "pool/1": np.array([1], np.int64),
        "pool/2": np.array([2], np.int64),
        "pool/one": np.array(1.0, np.float32),
        "pool/tiny": np.array(1e-12, np.float32),
    }
    nodes = [*before, *graph.node, *after]
    initial = [
        *graph.initializer,
        *(numpy_helper.from_array(value, name) for name, value in constants.items()),
    ]
    tokens = ["texts", "tokens"]
    made = helper.make_graph(
        nodes,
        "sentences",
        [
            helper.make_tensor_value_info("token_ids", TensorProto.INT64, tokens),
            helper.make_tensor_value_info("token_mask", TensorProto.FLOAT, tokens),
        ],
        [helper.make_tensor_value_info(TEXT, TensorProto.FLOAT, ["texts", None])],
        initial,
    )
    pooled = helper.make_model(
        made, opset_imports=list(inner.opset_import), ir_version=inner.ir_version
    )
    pooled.functions.extend(inner.functions)
    return pooled

"""A sentence encoder small enough to be worked out by hand, with a tokeniser that adds marks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

WORDS = ["[UNK]", "[CLS]", "[SEP]", "thing", "milk", "dog", "toys", "books"]
EMBEDDINGS = np.random.default_rng(8).normal(size=(len(WORDS), 5)).astype(np.float32)


def tokenizer_json() -> bytes:
    marks = [{"SpecialToken": {"id": word, "type_id": 0}} for word in ("[CLS]", "[SEP]")]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [marks[0], {"Sequence": {"id": "A", "type_id": 0}}, marks[1]],
                "pair": [marks[0], {"Sequence": {"id": "A", "type_id": 0}}, marks[1]],
                "special_tokens": {
                    word: {"id": word, "ids": [WORDS.index(word)], "tokens": [word]}
                    for word in ("[CLS]", "[SEP]")
                },
            },
            "decoder": None,
            "model": {
                "type": "WordLevel",
                "vocab": {word: index for index, word in enumerate(WORDS)},
                "unk_token": "[UNK]",
            },
        }
    ).encode()


def encoder_graph(*, opset: int = 17, more_inputs: tuple[str, ...] = ()) -> bytes:
    """hidden = embedding + attended mean, which is no number where nothing is attended to"""
    nodes = [
        helper.make_node("Gather", ["E", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Log", ["mask"], ["log"]),
        helper.make_node("Softmax", ["log"], ["weights"], axis=1),
        helper.make_node("Unsqueeze", ["weights", "axis"], ["column"]),
        helper.make_node("Mul", ["embedded", "column"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "one"], ["context"], keepdims=1),
        helper.make_node("Add", ["embedded", "context"], ["last_hidden_state"]),
    ]
    constants: dict[str, np.ndarray] = {
        "E": EMBEDDINGS,
        "axis": np.array([2], np.int64),
        "one": np.array([1], np.int64),
    }
    shape = ["batch", "sequence"]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, shape)
            for name in ("input_ids", "attention_mask", *more_inputs)
        ],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, 5])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


def write_encoder(folder: Path, **options) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "encoder.onnx").write_bytes(encoder_graph(**options))
    (folder / "tokenizer.json").write_bytes(tokenizer_json())
    return folder / "encoder.onnx"


def vector_of(words: list[str]) -> np.ndarray:
    """Return the vector of a text, marks included, worked out in numpy."""
    rows = EMBEDDINGS[[WORDS.index(word) for word in ["[CLS]", *words, "[SEP]"]]].astype(np.float64)
    mean = (rows + rows.mean(axis=0)).mean(axis=0)
    vector: np.ndarray = mean / np.linalg.norm(mean)
    return vector

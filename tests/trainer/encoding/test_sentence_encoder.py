from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tests.trainer.tiny_sentences import tokenizer_json, vector_of, write_encoder
from trainer.encoding.sentence_encoder import read_sentence_encoder, with_sentences
from trainer.errors import LogFileError


def read(folder, *, max_tokens=16, **options):
    model = write_encoder(folder, **options)
    return read_sentence_encoder(model, folder / "tokenizer.json", max_tokens)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    return read(tmp_path_factory.mktemp("encoder"))


def test_a_vector_is_the_mean_over_tokens_at_unit_length(sentences):
    got = sentences.vectors(["milk dog", "thing", "dog"])
    assert got.shape == (3, sentences.width) == (3, 5)
    for row, words in enumerate((["milk", "dog"], ["thing"], ["dog"])):
        np.testing.assert_allclose(got[row], vector_of(words), atol=1e-6)


def test_padding_beside_longer_texts_changes_nothing(sentences):
    alone = sentences.vectors(["milk"])
    np.testing.assert_allclose(
        sentences.vectors(["milk", "dog dog dog dog milk thing"])[0], alone[0], atol=1e-6
    )


def test_an_empty_text_is_zeros_and_no_nan(sentences):
    assert sentences.vectors(["", "milk", " \t"])[[0, 2]].tolist() == [[0.0] * 5] * 2


def test_a_text_of_a_megabyte_is_its_first_tokens(tmp_path):
    sentences = read(tmp_path, max_tokens=6)
    long = sentences.vectors(["milk " * 200_000, "milk milk milk milk"])
    np.testing.assert_allclose(long[0], long[1], atol=1e-6)


@pytest.mark.parametrize("opset", [13, 18])
def test_encoders_of_other_opsets_join_a_graph(tmp_path, opset):
    sentences = read(tmp_path, opset=opset)
    node = helper.make_node("Add", ["text", "text"], ["twice"])
    graph = helper.make_graph(
        [node],
        "twice",
        [helper.make_tensor_value_info("text", TensorProto.FLOAT, ["n", 5])],
        [helper.make_tensor_value_info("twice", TensorProto.FLOAT, ["n", 5])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    joined = onnxruntime.InferenceSession(
        with_sentences(model.SerializeToString(), sentences), providers=["CPUExecutionProvider"]
    )
    assert {entry.name for entry in joined.get_inputs()} == {"token_ids", "token_mask"}
    ids, mask = np.array([[1, 4, 2]]), np.ones((1, 3), np.float32)
    got = joined.run(["twice"], {"token_ids": ids, "token_mask": mask})[0]
    np.testing.assert_allclose(got[0], 2 * vector_of(["milk"]), atol=1e-5)


def test_what_is_no_encoder_is_refused(tmp_path):
    with pytest.raises(LogFileError, match="got an input 'pixel_values', want input_ids"):
        read(tmp_path, more_inputs=("pixel_values",))
    (tmp_path / "encoder.onnx").write_bytes(b"no graph")
    with pytest.raises(LogFileError, match=r"got encoder\.onnx and tokenizer\.json that cannot"):
        read_sentence_encoder(tmp_path / "encoder.onnx", tmp_path / "tokenizer.json", 16)
    write_encoder(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json()[:40])
    with pytest.raises(LogFileError, match="cannot be read"):
        read_sentence_encoder(tmp_path / "encoder.onnx", tmp_path / "tokenizer.json", 16)
    with pytest.raises(LogFileError, match="got no file"):
        read_sentence_encoder(tmp_path / "none.onnx", tmp_path / "tokenizer.json", 16)

from __future__ import annotations

import os
import sys

import onnx
import pytest
from paddle import nn
from paddle.static import InputSpec

from rerank_server.contract.features import SEQUENCE_FEATURES
from rerank_server.contract.graph_inputs import (
    PRODUCT_INPUTS,
    QUERY_INPUTS,
    SCORER_INPUTS,
    SCORER_OUTPUTS,
    VECTOR_OUTPUTS,
)
from trainer.errors import ExportError
from trainer.graphs import OPSET, _export, export_graphs, output_captured


@pytest.fixture
def exported(tiny_ranker, tiny_log, capfd):
    graphs = export_graphs(tiny_ranker, len(tiny_log.schema.features), len(SEQUENCE_FEATURES))
    return graphs, capfd.readouterr()


def test_graphs_have_the_names_of_the_contract_and_nothing_is_printed(exported, tiny_ranker):
    graphs, printed = exported
    assert (printed.out, printed.err) == ("", "")
    assert not tiny_ranker.training
    wanted = {
        "product.onnx": (PRODUCT_INPUTS, VECTOR_OUTPUTS),
        "query.onnx": (QUERY_INPUTS, VECTOR_OUTPUTS),
        "scorer.onnx": (SCORER_INPUTS, SCORER_OUTPUTS),
    }
    assert graphs.keys() == wanted.keys()
    for name, (inputs, outputs) in wanted.items():
        model = onnx.load_model_from_string(graphs[name])
        onnx.checker.check_model(model, full_check=True)
        assert {entry.name for entry in model.graph.input} == set(inputs)
        assert tuple(entry.name for entry in model.graph.output) == outputs
        assert model.opset_import[0].version == OPSET
        read = {name for node in model.graph.node for name in node.input}
        assert all(constant.name in read for constant in model.graph.initializer)


def test_exporting_keeps_a_network_in_training_in_training(tiny_ranker, tiny_log):
    tiny_ranker.train()
    export_graphs(tiny_ranker, len(tiny_log.schema.features), len(SEQUENCE_FEATURES))
    assert tiny_ranker.training


class Sine(nn.Layer):
    def forward(self, numbers):
        return numbers.sin()


class TwoOutputs(nn.Layer):
    def forward(self, numbers):
        return numbers + 1, numbers * 2


NUMBERS = [InputSpec([None, 2], "float32", "numbers")]


def test_a_graph_with_other_inputs_or_outputs_is_refused():
    with pytest.raises(ExportError, match=r"inputs of the graph: got \['numbers'\]"):
        _export(Sine(), NUMBERS, ("vectors",), ("sine",))
    with pytest.raises(ExportError, match="outputs of the graph: got 2, want 1"):
        _export(TwoOutputs(), NUMBERS, ("numbers",), ("sum",))


class Unsupported(nn.Layer):
    def forward(self, numbers):
        return numbers.lgamma()


def test_what_the_converter_says_of_a_failure_is_in_the_error():
    with pytest.raises(ExportError, match=r"(?s)Unsupported: got no graph.*lgamma"):
        _export(Unsupported(), NUMBERS, ("numbers",), ("out",))


def test_output_below_and_in_python_is_captured_and_then_flows_again(tmp_path, capfd):
    with output_captured(tmp_path / "said.txt") as said:
        os.write(1, b"below\n")
        print("in python", file=sys.stderr)
    os.write(1, b"after\n")
    assert said.read_text() == "below\nin python\n"
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("after\n", "")


def test_output_flows_again_after_an_error(tmp_path, capfd):
    with pytest.raises(KeyError), output_captured(tmp_path / "said.txt"):
        raise KeyError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"

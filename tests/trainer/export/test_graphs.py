from __future__ import annotations

import os
import sys

import onnx
import pytest
from onnx import TensorProto, helper
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
from trainer.export.graphs import (
    OPSET,
    GraphLayer,
    _as_contracted,
    convert_layers,
    export_graphs,
    output_captured,
)


def test_graphs_have_the_names_of_the_contract_and_nothing_is_printed(tiny_ranker, tiny_log, capfd):
    tiny_ranker.train()
    graphs = export_graphs(tiny_ranker, len(tiny_log.schema.features), len(SEQUENCE_FEATURES))
    printed = capfd.readouterr()
    assert tiny_ranker.training  # as it was before
    assert (printed.out, printed.err) == ("", "")
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
        constants = [node for node in model.graph.node if node.op_type == "Constant"]
        assert constants
        assert all(set(node.output) & read for node in constants)


class OneOutput(nn.Layer):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, numbers):
        return self.linear(numbers)


class Unsupported(OneOutput):
    def forward(self, numbers):
        return self.linear(numbers).lgamma()


NUMBERS = [InputSpec([None, 2], "float32", "numbers")]


def identity_model(inputs, outputs) -> onnx.ModelProto:
    def value(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None])

    nodes = [helper.make_node("Identity", [inputs[0]], [name]) for name in outputs]
    graph = helper.make_graph(nodes, "test", list(map(value, inputs)), list(map(value, outputs)))
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def test_a_graph_with_other_inputs_or_outputs_is_refused():
    with pytest.raises(ExportError, match=r"inputs of the graph: got \['b'\], want \['a'\]"):
        _as_contracted(identity_model(["b"], ["x"]), ("a",), ("vectors",))
    with pytest.raises(ExportError, match="outputs of the graph: got 2, want 1"):
        _as_contracted(identity_model(["a"], ["x", "y"]), ("a",), ("vectors",))
    named = onnx.load_model_from_string(
        _as_contracted(identity_model(["a"], ["x"]), ("a",), ("vectors",))
    )
    assert [entry.name for entry in named.graph.output] == ["vectors"]
    assert named.graph.node[0].output == ["vectors"]


def test_what_the_converter_says_of_a_failure_is_in_the_error():
    with pytest.raises(ExportError, match=r"(?s)got exit status .* from paddle2onnx.*gamma"):
        convert_layers({"a.onnx": GraphLayer(Unsupported(), NUMBERS, ("numbers",), ("out",))})


def test_output_below_and_in_python_is_captured_and_then_flows_again(tmp_path, capfd):
    with output_captured(tmp_path / "said.txt") as said:
        os.write(1, b"below\n")
        sys.stderr.write("in python\n")
    os.write(1, b"after\n")
    assert said.read_text() == "below\nin python\n"
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("after\n", "")


def test_output_flows_again_after_an_error(tmp_path, capfd):
    with pytest.raises(KeyError), output_captured(tmp_path / "said.txt"):
        raise KeyError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"

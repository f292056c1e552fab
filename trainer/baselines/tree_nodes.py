"""The trees' part of the scorer graph, as ONNX's own tree operator.

`TreeEnsembleRegressor` of `ai.onnx.ml` runs in onnxruntime without a dependency. LightGBM
compares in float64 and the operator in float32; a threshold rounded down to float32 divides
float32 features exactly as the float64 one does, which converters that round to nearest miss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trainer.baselines.gbdt import Gbdt
from trainer.errors import ExportError
from trainer.model.tree_term import TreeTerm

TREE_LOGITS = "tree_logits"
_ML = "ai.onnx.ml"
_ML_OPSET = 3


def with_tree_term(scorer: bytes, term: TreeTerm) -> bytes:
    """Return the scorer graph with its input `tree_logits` computed from its other inputs.

    Trees run only when a candidate of the call is of a surface and category that they score.

    Args:
        scorer: A graph with inputs `dense` (pages, candidates, features), `categories` (pages,
            candidates), `surface` (pages,) and `tree_logits` (pages, candidates, objectives).
        term: Trees and weights.

    Raises:
        ExportError: When the trees split in a way that the operator cannot.
    """
    model = onnx.load_from_string(scorer)
    graph = model.graph
    for index, entry in enumerate(graph.input):
        if entry.name == TREE_LOGITS:
            del graph.input[index]
            break
    else:
        raise ExportError(
            f"inputs of the graph: got {[entry.name for entry in graph.input]}, want "
            f"{TREE_LOGITS!r} among them"
        )
    nodes = _term_nodes(term, graph.initializer)
    kept = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *kept])
    model.opset_import.append(helper.make_opsetid(_ML, _ML_OPSET))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _term_nodes(term: TreeTerm, initializers: Any) -> list[onnx.NodeProto]:  # noqa: ANN401
    """Return the nodes that give `tree_logits`, and add the constants they read."""

    def constant(name: str, value: np.ndarray) -> str:
        initializers.append(numpy_helper.from_array(value, f"trees/{name}"))
        return f"trees/{name}"

    node = helper.make_node
    categories, objectives = term.weights.shape[1:]
    last = constant("last_axis", np.array([-1]))
    flat = constant("flat", np.array([-1, term.models[0].width]))
    nodes = [
        node("Cast", ["categories"], ["trees/category"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["trees/category", last], ["trees/category_column"]),
        node("Concat", ["dense", "trees/category_column"], ["trees/paged"], axis=-1),
        node("Reshape", ["trees/paged", flat], ["trees/rows"]),
        node("Shape", ["trees/category_column"], ["trees/column_shape"]),
        node("Shape", ["trees/category"], ["trees/shape"]),
        node("ReduceProd", ["trees/shape"], ["trees/count"], keepdims=1),
        node("Concat", ["trees/count", constant("one", np.array([1]))], ["trees/zeros"], axis=0),
        # the cell of each candidate: its surface and category as one number
        node("Unsqueeze", ["surface", last], ["trees/surface_column"]),
        node(
            "Mul",
            ["trees/surface_column", constant("categories", np.array(categories))],
            ["trees/first_cell"],
        ),
        node("Add", ["trees/first_cell", "categories"], ["trees/cell"]),
    ]
    parts = []
    for index, model in enumerate(term.models):
        cells = constant(f"{index}/cells", (term.model_of.ravel() == index).astype(np.float32))
        nodes += _model_nodes(model, f"trees/{index}", cells, last)
        parts.append(f"trees/{index}/masked")
    weights = constant("weights", term.weights.reshape(-1, objectives))
    nodes += [
        node("Sum", parts, ["trees/score"]),
        node("Gather", [weights, "trees/cell"], ["trees/weight"]),
    ]
    if not term.bias.any():
        return [*nodes, node("Mul", ["trees/score", "trees/weight"], [TREE_LOGITS])]
    bias = constant("bias", term.bias.reshape(-1, objectives))
    return [
        *nodes,
        node("Mul", ["trees/score", "trees/weight"], ["trees/weighted"]),
        node("Gather", [bias, "trees/cell"], ["trees/shift"]),
        node("Add", ["trees/weighted", "trees/shift"], [TREE_LOGITS]),
    ]


def _model_nodes(model: Gbdt, own: str, cells: str, last: str) -> list[onnx.NodeProto]:
    """Return the nodes from `trees/rows` to the score of one model, 0 outside its cells."""
    node = helper.make_node
    return [
        node("Gather", [cells, "trees/cell"], [f"{own}/flag"]),
        node("ReduceMax", [f"{own}/flag"], [f"{own}/most"], keepdims=0),
        node("Cast", [f"{own}/most"], [f"{own}/any"], to=TensorProto.BOOL),
        node(
            "If",
            [f"{own}/any"],
            [f"{own}/scores"],
            then_branch=_branch(_ensemble(model, f"{own}/ensemble"), f"{own}/then"),
            else_branch=_branch(
                node("ConstantOfShape", ["trees/zeros"], [f"{own}/none"]), f"{own}/else"
            ),
        ),
        node("Reshape", [f"{own}/scores", "trees/column_shape"], [f"{own}/paged"]),
        node("Unsqueeze", [f"{own}/flag", last], [f"{own}/column"]),
        node("Mul", [f"{own}/paged", f"{own}/column"], [f"{own}/masked"]),
    ]


def _branch(only: onnx.NodeProto, name: str) -> onnx.GraphProto:
    """Return a branch of one node, which reads from the graph around it."""
    output = helper.make_tensor_value_info(only.output[0], TensorProto.FLOAT, [None, 1])
    return helper.make_graph([only], name, [], [output])


def _ensemble(model: Gbdt, output: str) -> onnx.NodeProto:
    """Return the trees as one node from `trees/rows` to shape (rows, 1)."""
    columns = _Columns()
    for tree, info in enumerate(model.booster.dump_model()["tree_info"]):
        columns.add_tree(tree, info["tree_structure"])
    return helper.make_node(
        "TreeEnsembleRegressor",
        ["trees/rows"],
        [output],
        domain=_ML,
        n_targets=1,
        post_transform="NONE",
        aggregate_function="SUM",
        **columns.attributes(),
    )


class _Columns:
    """The operator's parallel lists: one entry per node, one per leaf."""

    def __init__(self) -> None:
        self._nodes: list[tuple[int, int, int, str, float, int, int]] = []
        self._leaves: list[tuple[int, int, float]] = []

    def add_tree(self, tree: int, root: Mapping[str, Any]) -> None:
        """Number the nodes of a dumped tree depth first and add them."""
        self._count = 0
        self._add(tree, root)

    def _add(self, tree: int, dumped: Mapping[str, Any]) -> int:
        number = self._count
        self._count += 1
        if "leaf_value" in dumped:
            self._nodes.append((tree, number, 0, "LEAF", 0.0, 0, 0))
            self._leaves.append((tree, number, float(dumped["leaf_value"])))
            return number
        kind, missing = dumped["decision_type"], dumped["missing_type"]
        if kind != "<=" or missing != "None":
            raise ExportError(
                f"tree {tree}: got a split {kind!r} with missing values as {missing!r}, want '<=' "
                f"and 'None', as trees on normalised features have"
            )
        place = len(self._nodes)
        left = self._add(tree, dumped["left_child"])
        right = self._add(tree, dumped["right_child"])
        threshold = round_down(float(dumped["threshold"]))
        feature = int(dumped["split_feature"])
        self._nodes.insert(place, (tree, number, feature, "BRANCH_LEQ", threshold, left, right))
        return number

    def attributes(self) -> dict[str, Any]:
        """Return the operator's attributes."""
        trees, numbers, features, modes, values, lefts, rights = zip(*self._nodes, strict=True)
        leaf_trees, leaf_numbers, weights = zip(*self._leaves, strict=True)
        return {
            "nodes_treeids": trees,
            "nodes_nodeids": numbers,
            "nodes_featureids": features,
            "nodes_modes": modes,
            "nodes_values": values,
            "nodes_truenodeids": lefts,
            "nodes_falsenodeids": rights,
            "target_treeids": leaf_trees,
            "target_nodeids": leaf_numbers,
            "target_ids": (0,) * len(leaf_trees),
            "target_weights": weights,
        }


def round_down(value: float) -> float:
    """Return the largest float32 that is not above `value`.

    A float32 is at most `value` exactly when it is at most this.
    """
    nearest = np.float32(value)
    # as floats, since numpy compares a float32 with a number of Python in float32
    above = float(nearest) > value
    return float(np.nextafter(nearest, np.float32(-np.inf)) if above else nearest)

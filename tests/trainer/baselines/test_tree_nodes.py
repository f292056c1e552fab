"""Tests of the trees as ONNX nodes: they score as LightGBM does, to the last comparison."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from rerank_server.contract.features import SEQUENCE_FEATURES
from trainer.baselines.gbdt import Gbdt, GbdtBudget
from trainer.baselines.tree_nodes import TREE_LOGITS, round_down, with_tree_term
from trainer.baselines.trees import normalised_trees, surface_trees
from trainer.errors import ExportError
from trainer.export.export import onnx_graphs, paddle_graphs
from trainer.export.graphs import export_graphs
from trainer.model.tree_term import TreeTerm

BUDGET = GbdtBudget(rounds=25, threads=1)
OWN, POOLED, NETWORK = 1, 2, 3  # categories with these choices on Search


@pytest.fixture(scope="module")
def term(tiny_log) -> TreeTerm:
    surfaces, objectives = tiny_log.schema.surfaces, tiny_log.schema.objectives
    names = ("search", "promotion")
    weights = np.zeros((len(surfaces), len(objectives)), np.float32)
    for index, name in enumerate(names):
        weights[surfaces.index(name)] = np.arange(1, len(objectives) + 1) * (index + 0.5)
    trees = {surfaces.index(name): normalised_trees(tiny_log, name, BUDGET) for name in names}
    return TreeTerm.of_surfaces(trees, weights, len(tiny_log.schema.categories))


@pytest.fixture(scope="module")
def guarded(term, tiny_log) -> TreeTerm:
    """Return the term with every kind of choice: own trees, trees alone, network alone."""
    row, other = (tiny_log.schema.surfaces.index(name) for name in ("search", "promotion"))
    own = normalised_trees(tiny_log, "discovery", BUDGET)
    model_of, weights = term.model_of.copy(), term.weights.copy()
    network, bias = term.network.copy(), term.bias.copy()
    model_of[row, OWN], weights[row, OWN] = len(term.models), (0.7, 0.8, 0.9)
    network[row, OWN], bias[row, OWN] = 0, (1.0, -1.0, 0.5)
    network[row, POOLED], bias[row, POOLED] = 0, (0.1, 0.2, 0.3)
    model_of[row, NETWORK], weights[row, NETWORK] = -1, 0
    network[row, NETWORK], bias[row, NETWORK] = (1.5, 0.5, 2.0), -0.25
    network[other, OWN] = 0
    return TreeTerm((*term.models, own), model_of, weights, network, bias)


@pytest.fixture(scope="module")
def session(term, tiny_log) -> onnxruntime.InferenceSession:
    graph = _scorer_of_trees_alone(len(tiny_log.schema.features), term.weights.shape[2])
    return onnxruntime.InferenceSession(with_tree_term(graph, term))


def _scorer_of_trees_alone(features: int, objectives: int, name: str = TREE_LOGITS) -> bytes:
    """Return a graph that gives its input `tree_logits` back."""
    tensor = helper.make_tensor_value_info
    inputs = [
        tensor("dense", TensorProto.FLOAT, ["pages", "candidates", features]),
        tensor("categories", TensorProto.INT64, ["pages", "candidates"]),
        tensor("surface", TensorProto.INT64, ["pages"]),
        tensor(name, TensorProto.FLOAT, ["pages", "candidates", objectives]),
    ]
    output = tensor("logits", TensorProto.FLOAT, ["pages", "candidates", objectives])
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], ["logits"])], "scorer", inputs, [output]
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())


def _pages(tiny_log, pages: int, candidates: int, seed: int):
    random = np.random.default_rng(seed)
    width = len(tiny_log.schema.features)
    return (
        random.normal(size=(pages, candidates, width)).astype(np.float32),
        random.integers(0, len(tiny_log.schema.categories), (pages, candidates)),
    )


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("name", ["search", "promotion"])
def test_the_graph_adds_what_lightgbm_adds(session, term, tiny_log, name, size) -> None:
    dense, categories = _pages(tiny_log, 1, size, seed=size)
    surface = np.array([tiny_log.schema.surfaces.index(name)])
    inputs = {"dense": dense, "categories": categories, "surface": surface}
    (got,) = session.run(None, inputs)
    expected = term(dense, categories, surface)
    np.testing.assert_allclose(got, expected, atol=2e-6, rtol=1e-5)
    row = tiny_log.schema.surfaces.index(name)
    scores = term.models[term.model_of[row, 0]].scores(dense[0], categories[0])
    np.testing.assert_allclose(expected[0], scores[:, None] * term.weights[row, 0], rtol=1e-5)
    assert np.ptp(expected) > 0 or size == 1


def test_pages_of_several_surfaces_in_one_call_each_get_their_own_trees(
    session, term, tiny_log
) -> None:
    dense, categories = _pages(tiny_log, 4, 9, seed=5)
    names = ("promotion", "search", "discovery", "search")
    surface = np.array([tiny_log.schema.surfaces.index(name) for name in names])
    (got,) = session.run(None, {"dense": dense, "categories": categories, "surface": surface})
    np.testing.assert_allclose(got, term(dense, categories, surface), atol=2e-6, rtol=1e-5)
    assert not got[2].any()  # a surface without trees
    assert all(got[page].any() for page in (0, 1, 3))


def test_each_choice_of_the_guard_is_scored_as_lightgbm_scores_it(guarded, term, tiny_log) -> None:
    graph = _scorer_of_trees_alone(len(tiny_log.schema.features), term.weights.shape[2])
    session = onnxruntime.InferenceSession(with_tree_term(graph, guarded))
    dense, categories = _pages(tiny_log, 3, 40, seed=9)
    categories[:2, :12] = np.repeat([OWN, POOLED, NETWORK], 4)
    row, other = (tiny_log.schema.surfaces.index(name) for name in ("search", "promotion"))
    surface = np.array([row, other, row])
    (got,) = session.run(None, {"dense": dense, "categories": categories, "surface": surface})
    expected = guarded(dense, categories, surface)
    np.testing.assert_allclose(got, expected, atol=5e-6, rtol=1e-5)
    at = categories[0] == OWN
    own = guarded.models[-1].scores(dense[0][at], categories[0][at])
    np.testing.assert_allclose(
        got[0][at], own[:, None] * [0.7, 0.8, 0.9] + [1.0, -1.0, 0.5], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(
        got[0][categories[0] == NETWORK], np.full_like(got[0][categories[0] == NETWORK], -0.25)
    )
    # a page of own trees alone runs these and no others, and agrees as well
    alone = np.full((1, 40), OWN)
    inputs = {"dense": dense[:1], "categories": alone, "surface": surface[:1]}
    (got,) = session.run(None, inputs)
    np.testing.assert_allclose(got, guarded(dense[:1], alone, surface[:1]), atol=5e-6, rtol=1e-5)


def test_a_category_never_seen_takes_the_default(guarded, term, tiny_log) -> None:
    dense, categories = _pages(tiny_log, 2, 10, seed=3)
    surface = np.full(2, tiny_log.schema.surfaces.index("search"))
    logits = np.random.default_rng(1).normal(size=(2, 10, term.weights.shape[2]))
    never = np.zeros_like(categories)
    np.testing.assert_array_equal(
        guarded.mixed(logits, dense, never, surface), term.mixed(logits, dense, never, surface)
    )
    assert term.keeps_network
    assert not guarded.keeps_network
    seen = np.full_like(categories, POOLED)
    assert (
        guarded.mixed(logits, dense, seen, surface) == guarded(dense, seen, surface)
    ).all()  # trees alone: the network counts for nothing


def test_a_network_with_a_guard_exports_to_the_same_scores(guarded, tiny_ranker, tiny_log) -> None:
    """The whole scorer: what Paddle and LightGBM make of pages of every choice."""
    tiny_ranker.tree_term = guarded
    graphs = export_graphs(tiny_ranker, len(tiny_log.schema.features), len(SEQUENCE_FEATURES))
    random = np.random.default_rng(4)
    dense, categories = _pages(tiny_log, 3, 30, seed=6)
    width = tiny_ranker.sizes.width
    row = tiny_log.schema.surfaces.index("search")
    arrays = {
        "query_vector": random.normal(size=(3, width)).astype(np.float32),
        "surface": np.array([row, row, tiny_log.schema.surfaces.index("promotion")]),
        "candidate_vectors": random.normal(size=(3, 30, width)).astype(np.float32),
        "candidate_mask": np.ones((3, 30), np.float32),
        "categories": categories % 6,
        "dense": dense,
        "sequence_vectors": random.normal(size=(3, 4, width)).astype(np.float32),
        "sequence_features": random.normal(size=(3, 4, len(SEQUENCE_FEATURES))).astype(np.float32),
        "sequence_mask": np.ones((3, 4), np.float32),
    }
    expected = paddle_graphs(tiny_ranker).scorer(arrays)
    got = onnx_graphs(graphs).scorer(arrays)
    np.testing.assert_allclose(got["probabilities"], expected["probabilities"], atol=1e-5)
    np.testing.assert_allclose(got["logits"], expected["logits"], atol=1e-4)


def test_features_that_lie_on_a_threshold_fall_on_the_same_side(session, term, tiny_log) -> None:
    row = tiny_log.schema.surfaces.index("search")
    splits = list(_splits(term.models[term.model_of[row, 0]]))
    features = len(tiny_log.schema.features)
    dense, categories = _pages(tiny_log, 1, 3 * len(splits), seed=1)
    for index, (feature, threshold) in enumerate(splits):
        below = np.float32(round_down(threshold))
        # not the category row, and not LightGBM's edges of zero, below which it reads 0
        if feature == features or abs(threshold) < 1e-30:
            continue
        for offset, value in enumerate(
            (below, np.nextafter(below, np.float32(-np.inf)), np.nextafter(below, np.float32(9e9)))
        ):
            dense[0, 3 * index + offset, feature] = value
    inputs = {"dense": dense, "categories": categories, "surface": np.array([row])}
    (got,) = session.run(None, inputs)
    expected = term(dense, categories, np.array([row]))
    np.testing.assert_allclose(got, expected, atol=2e-6, rtol=1e-5)


def _splits(model: Gbdt):
    waiting = [info["tree_structure"] for info in model.booster.dump_model()["tree_info"]]
    while waiting:
        node = waiting.pop()
        if "threshold" in node:
            yield node["split_feature"], node["threshold"]
            waiting += [node["left_child"], node["right_child"]]


@given(st.floats(-1e30, 1e30), st.floats(-(2.0**99), 2.0**99, width=32))
def test_a_rounded_threshold_divides_float32_as_the_exact_one(threshold, value) -> None:
    rounded = round_down(threshold)
    assert np.float32(rounded) == rounded <= threshold
    assert (value <= rounded) == (value <= threshold)


def test_trees_with_sets_of_categories_are_refused(tiny_log, term) -> None:
    raw = surface_trees(tiny_log, "search", BUDGET)
    graph = _scorer_of_trees_alone(len(tiny_log.schema.features), term.weights.shape[2])
    wrong = replace(term, models=(raw, *term.models[1:]))
    with pytest.raises(ExportError, match=r"tree \d+: got a split .* want '<='"):
        with_tree_term(graph, wrong)


def test_a_graph_without_the_input_is_refused(term, tiny_log) -> None:
    graph = _scorer_of_trees_alone(
        len(tiny_log.schema.features), term.weights.shape[2], name="other"
    )
    with pytest.raises(ExportError, match=r"want 'tree_logits' among them"):
        with_tree_term(graph, term)


def test_the_graph_loses_the_input_and_keeps_the_others(term, tiny_log) -> None:
    graph = _scorer_of_trees_alone(len(tiny_log.schema.features), term.weights.shape[2])
    model = onnx.load_from_string(with_tree_term(graph, term))
    assert [entry.name for entry in model.graph.input] == ["dense", "categories", "surface"]
    onnx.checker.check_model(model, full_check=True)

"""What can be switched off in the network: it then says nothing, and the rest stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import paddle
import pytest

from rerank_server.contract.graph_inputs import SCORER_INPUTS
from tests.trainer.model.test_products import SIZES as PRODUCT_SIZES
from tests.trainer.model.test_products import inputs, vectors
from tests.trainer.model.test_ranker import SIZES, page, ranker_of
from trainer.errors import ConfigError
from trainer.export.graphs import export_graphs
from trainer.model.adapters import LowRankAdapter
from trainer.model.products import ProductTower


def test_a_rank_of_0_leaves_the_shared_layer_alone():
    paddle.seed(1)
    layer = LowRankAdapter(4, 3, categories=5, rank=0)
    values = paddle.randn([2, 6, 4])
    got = layer(values, paddle.full([2, 6], 3, "int64"))
    np.testing.assert_array_equal(got.numpy(), layer.shared(values).numpy())
    assert len(layer.parameters()) == 2


def test_without_its_sequence_the_shopper_changes_no_score():
    ranker = ranker_of(replace(SIZES, shopper_sequence=False))
    first = page(categories=[1, 2, 3, 1, 2])
    other = replace(
        first, sequence=first.sequence + 3.0, sequence_features=-first.sequence_features
    )
    np.testing.assert_array_equal(ranker.scorer(first).numpy(), ranker.scorer(other).numpy())
    reading = ranker_of()
    assert not np.allclose(reading.scorer(first).numpy(), reading.scorer(other).numpy())


def test_without_the_number_encoding_numbers_still_count():
    ranker = ranker_of(replace(SIZES, number_bins=0))
    first = page()
    moved = paddle.concat([first.dense[:, :1] + 1.0, first.dense[:, 1:]], axis=1)
    other = replace(first, dense=moved)
    assert not np.allclose(ranker.scorer(first).numpy(), ranker.scorer(other).numpy())
    fewer = sum(p.size for p in ranker.parameters())
    assert fewer < sum(p.size for p in ranker_of().parameters())


@pytest.mark.parametrize(
    ("name", "changed"),
    [("text", ["text"]), ("structure", ["category", "levels", "attributes"]),
     ("identity", ["identity"]), ("behaviour", ["factors"])],
)  # fmt: skip
def test_the_tower_is_blind_to_a_modality_that_is_left_out(name, changed):
    paddle.seed(2)
    tower = ProductTower(PRODUCT_SIZES, 6, modality_dropout=0.0, left_out=(name,))
    seeing = ProductTower(PRODUCT_SIZES, 6, modality_dropout=0.0)
    for parameter in (*tower.parameters(), *seeing.parameters()):
        parameter.set_value(parameter + 0.3 * paddle.randn(parameter.shape))
    first, second = inputs(), inputs(seed=5)
    other = {key: second[key] if key in changed else value for key, value in first.items()}
    np.testing.assert_allclose(vectors(tower, first), vectors(tower, other), atol=1e-6)
    assert not np.allclose(vectors(seeing, first), vectors(seeing, other))


def test_with_all_modalities_left_out_a_product_is_nothing():
    tower = ProductTower(PRODUCT_SIZES, 6, modality_dropout=0.0, left_out=ProductTower.MODALITIES)
    np.testing.assert_allclose(vectors(tower, inputs()), 0.0, atol=1e-6)


def test_an_unknown_modality_names_the_nearest():
    with pytest.raises(ConfigError, match=r"left_out_modalities: got 'txt'.*nearest: text"):
        ProductTower(PRODUCT_SIZES, 6, modality_dropout=0.0, left_out=("txt",))


def test_with_all_of_it_switched_off_the_graphs_keep_their_inputs_and_score_alike():
    sizes = replace(
        SIZES,
        rank=0,
        number_bins=0,
        page_layers=0,
        shopper_sequence=False,
        left_out_modalities=("identity", "text"),
    )
    ranker = ranker_of(sizes)
    graphs = export_graphs(ranker, sizes.features, sizes.event_features)
    scorer = onnxruntime.InferenceSession(graphs["scorer.onnx"], providers=["CPUExecutionProvider"])
    assert {entry.name for entry in scorer.get_inputs()} == set(SCORER_INPUTS)
    values = page()
    given = {
        "query_vector": values.query,
        "surface": values.surface,
        "candidate_vectors": values.candidates,
        "candidate_mask": values.mask,
        "categories": values.categories,
        "dense": values.dense,
        "sequence_vectors": values.sequence,
        "sequence_features": values.sequence_features,
        "sequence_mask": values.sequence_mask,
    }
    _, logits = scorer.run(None, {name: value.numpy() for name, value in given.items()})
    np.testing.assert_allclose(logits, ranker.scorer(values).numpy(), atol=1e-5)

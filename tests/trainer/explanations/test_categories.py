from __future__ import annotations

import numpy as np
import paddle
import pytest

from trainer.explanations.categories import (
    ADAPTERS,
    AFFINE,
    BOTH,
    adapter_effect,
    adapter_layers,
    adapter_norms,
    adapter_similarity,
    embedding_similarity,
    kendall_tau,
    own_parameters_zeroed,
)
from trainer.explanations.importance import PageSample
from trainer.explanations.pages import ExplanationError, read_pages, served_score
from trainer.model.adapters import LowRankAdapter


def test_kendalls_tau_by_hand():
    scores = np.array([3.0, 2.0, 1.0, 3.0, 2.0, 1.0, 1.0, 1.0])
    others = np.array([3.0, 1.0, 2.0, 1.0, 2.0, 3.0, 5.0, 6.0])
    # two of three pairs agree; all disagree; the last page is one tie
    found = kendall_tau(scores, others, np.array([0, 3, 6, 8]))
    assert found[:2] == pytest.approx([1 / 3, -1.0])
    assert np.isnan(found[2])


def test_ties_count_as_in_tau_b():
    # pairs: (1,2) tied in one, (1,3) and (2,3) agree: 2 / sqrt(2 * 3)
    found = kendall_tau(np.array([2.0, 2.0, 1.0]), np.array([3.0, 2.0, 1.0]), np.array([0, 3]))
    assert found[0] == pytest.approx(2 / np.sqrt(6))


def test_the_layers_are_those_that_the_network_computes_with(tiny_ranker):
    layers = [
        layer for layer in tiny_ranker.scorer.sublayers() if isinstance(layer, LowRankAdapter)
    ]
    found = adapter_layers(tiny_ranker)
    assert len(found) == len(layers) >= 2
    for layer, (shared, narrow, wide) in zip(layers, found, strict=True):
        values = np.random.default_rng(0).normal(size=(1, 3, shared.shape[0])).astype(np.float32)
        categories = np.array([[0, 1, 2]])
        got = layer(paddle.to_tensor(values), paddle.to_tensor(categories)).numpy()[0]
        bias = layer.state_dict()["shared.bias"].numpy()
        for row in range(3):
            own = shared + narrow[row] @ wide[row]
            np.testing.assert_allclose(got[row], values[0, row] @ own + bias, atol=1e-4)


def test_similarity_is_the_cosine_of_the_changes(tiny_ranker, tiny_log):
    schema = tiny_log.schema
    found = adapter_similarity(tiny_ranker, schema)
    assert found is not None
    layers = adapter_layers(tiny_ranker)
    flat = {
        name: np.concatenate([(narrow[row] @ wide[row]).ravel() for _, narrow, wide in layers])
        for row, name in enumerate(schema.categories)
    }
    assert sorted(found.names) == sorted(schema.categories[1:])
    for row, name in enumerate(found.names):
        for column, other in enumerate(found.names):
            want = flat[name] @ flat[other] / np.linalg.norm(flat[name])
            assert found.cosines[row, column] == pytest.approx(
                want / np.linalg.norm(flat[other]), abs=1e-5
            )
    assert found.tree.shape == (len(found.names) - 1, 4)
    seen = embedding_similarity(tiny_ranker, schema)
    assert seen is not None
    assert sorted(seen.names) == sorted(found.names)


def test_a_network_whose_adapters_never_learned_has_no_similarity(
    tiny_config, tiny_log, tiny_catalogue
):
    from trainer.training.network import build_ranker  # noqa: PLC0415

    fresh = build_ranker(tiny_config, tiny_log, tiny_catalogue)
    assert adapter_similarity(fresh, tiny_log.schema) is None
    norms = adapter_norms(fresh, tiny_log.schema)
    assert {norm for each in norms.values() for norm in each} == {0.0}


def test_zeroed_parameters_come_back_even_after_an_error(tiny_ranker):
    before = {name: value.numpy() for name, value in tiny_ranker.state_dict().items()}
    with pytest.raises(RuntimeError), own_parameters_zeroed(tiny_ranker, BOTH):
        raise RuntimeError
    for name, value in tiny_ranker.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    with (
        pytest.raises(ExplanationError, match="parameters: got 'heads'"),
        own_parameters_zeroed(tiny_ranker, "heads"),
    ):
        pass


def test_without_adapters_a_category_is_scored_by_what_all_share(tiny_run):
    log, ranker = tiny_run.log, tiny_run.ranker
    pages = read_pages(tiny_run, log.pages_of("test", "search")[:20])
    sample = PageSample(pages, served_score(tiny_run))
    found = adapter_effect(ranker, sample, log.schema)
    assert set(found.ndcg) == {ADAPTERS, AFFINE, BOTH}
    assert all(-1 <= each.mean <= 1 for each in found.agreement.values())
    np.testing.assert_array_equal(sample.scores_again(), sample.scores)
    with own_parameters_zeroed(ranker, ADAPTERS):
        assert (sample.scores_again() != sample.scores).any()

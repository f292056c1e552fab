from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest

from trainer.encoding.batches import make_batch, rows_of
from trainer.training.network import build_ranker, page_batch, score_pages


@pytest.fixture(scope="module")
def some_pages(tiny_log):
    """Long and short pages of every surface."""
    chosen = []
    for surface in ("search", "discovery", "promotion"):
        pages = tiny_log.pages_of("train", surface)
        order = pages[np.argsort(np.diff(tiny_log.offsets)[pages], kind="stable")]
        chosen += [order[0], order[order.size // 2], order[-1]]
    return np.array(chosen)


def test_the_score_of_a_page_alone_equals_its_score_in_a_padded_batch(
    tiny_ranker, tiny_catalogue, tiny_log, some_pages
):
    alone = [
        score_pages(tiny_ranker, tiny_catalogue, tiny_log, some_pages[[index]])
        for index in range(some_pages.size)
    ]
    together = score_pages(tiny_ranker, tiny_catalogue, tiny_log, some_pages, rows=100_000)
    assert np.abs(together).max() > 0.1
    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-6, rtol=1e-6)


def test_scores_come_in_the_order_of_the_pages_asked_for(
    tiny_ranker, tiny_catalogue, tiny_log, some_pages
):
    straight = score_pages(tiny_ranker, tiny_catalogue, tiny_log, some_pages)
    turned = score_pages(tiny_ranker, tiny_catalogue, tiny_log, some_pages[::-1].copy(), rows=50)
    sizes = np.diff(tiny_log.offsets)[some_pages]
    parts = np.split(straight, np.cumsum(sizes)[:-1])
    np.testing.assert_allclose(np.concatenate(parts[::-1]), turned, atol=1e-6, rtol=1e-6)
    assert straight.shape == (rows_of(tiny_log, some_pages).size, 3)


def test_no_page_has_no_scores(tiny_ranker, tiny_catalogue, tiny_log):
    scores = score_pages(tiny_ranker, tiny_catalogue, tiny_log, np.empty(0, np.int64))
    assert scores.shape == (0, 3)


def test_permuting_candidates_permutes_scores(tiny_ranker, tiny_catalogue, tiny_log, some_pages):
    batch = make_batch(tiny_log, some_pages[[2]])
    order = np.random.default_rng(0).permutation(batch.mask.shape[1])
    turned = replace(
        batch,
        **{
            name: getattr(batch, name)[:, order]
            for name in ("candidates", "mask", "categories", "dense")
        },
    )
    with paddle.no_grad():
        straight, other = (
            tiny_ranker.scorer(page_batch(tiny_ranker, tiny_catalogue, part)).numpy()
            for part in (batch, turned)
        )
    np.testing.assert_allclose(other, straight[:, order], atol=1e-6, rtol=1e-6)


def test_product_vectors_are_gathered_for_candidates_and_events(
    tiny_ranker, tiny_catalogue, tiny_log, some_pages
):
    batch = make_batch(tiny_log, some_pages[:2])
    with paddle.no_grad():
        page = page_batch(tiny_ranker, tiny_catalogue, batch)
    again = {row: index for index, row in enumerate(batch.products.tolist())}
    log, first = tiny_log, int(some_pages[0])
    rows = log.rows[log.offsets[first] : log.offsets[first + 1]]
    with paddle.no_grad():
        every = page_batch(tiny_ranker, tiny_catalogue, replace(
            batch, candidates=np.arange(batch.products.size)[None, :].repeat(2, axis=0)
        )).candidates.numpy()[0]  # fmt: skip
    for place, row in enumerate(rows.tolist()):
        np.testing.assert_array_equal(page.candidates.numpy()[0, place], every[again[row]])


def test_scoring_does_not_leave_the_network_in_training(
    tiny_ranker, tiny_catalogue, tiny_log, some_pages
):
    tiny_ranker.train()
    first = score_pages(tiny_ranker, tiny_catalogue, tiny_log, some_pages)
    second = score_pages(tiny_ranker, tiny_catalogue, tiny_log, some_pages)
    np.testing.assert_array_equal(first, second)
    assert not tiny_ranker.training


def test_the_same_seed_gives_the_same_network_and_another_seed_another(
    tiny_config, tiny_log, tiny_catalogue
):
    first, second, other = (
        build_ranker(replace(tiny_config, seed=seed), tiny_log, tiny_catalogue)
        for seed in (1, 1, 2)
    )
    pairs = list(zip(first.parameters(), second.parameters(), strict=True))
    assert all(np.array_equal(one.numpy(), two.numpy()) for one, two in pairs)
    assert any(
        not np.array_equal(one.numpy(), two.numpy())
        for one, two in zip(first.parameters(), other.parameters(), strict=True)
    )

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_server.contract.schema import normalise
from trainer.encoding.batches import Share, batches_in_order, epoch_order, make_batch, rows_of


@pytest.fixture(scope="module")
def train_pages(tiny_log):
    return np.concatenate([tiny_log.pages_of("train", s) for s in ("search", "promotion")])


def test_a_batch_holds_each_page_and_masked_padding(tiny_log, train_pages):
    log, pages = tiny_log, train_pages[[0, 5, -1, 9]]
    batch = make_batch(log, pages)
    for index, page in enumerate(pages.tolist()):
        rows = slice(int(log.offsets[page]), int(log.offsets[page + 1]))
        size = rows.stop - rows.start
        assert batch.mask[index].tolist() == [1.0] * size + [0.0] * (batch.mask.shape[1] - size)
        np.testing.assert_array_equal(
            batch.products[batch.candidates[index, :size]], log.rows[rows]
        )
        np.testing.assert_array_equal(
            batch.dense[index, :size], normalise(log.schema, log.dense[rows])
        )
        np.testing.assert_array_equal(batch.labels[index, :size], log.labels[rows])
        np.testing.assert_array_equal(batch.categories[index, :size], log.categories[rows])
        assert (batch.dense[index, size:] == 0).all()
        assert (batch.labels[index, size:] == 0).all()
        assert (batch.counted[index, size:] == 0).all()
        # padding is the unknown product
        assert (batch.products[batch.candidates[index, size:]] == log.prepared.size).all()
        events = log.sequence_rows[page][log.sequence_rows[page] >= 0]
        assert int(batch.sequence_mask[index].sum()) == events.size
        np.testing.assert_array_equal(batch.products[batch.sequence[index, : events.size]], events)
        query = log.prepared.page_queries[log.selection.pages[page]]
        assert batch.queries[index] == query
    assert np.unique(batch.products).size == batch.products.size


def test_a_trial_counts_what_the_shopper_never_bought_and_the_others_all(tiny_log, train_pages):
    batch = make_batch(tiny_log, train_pages)
    rows = rows_of(tiny_log, train_pages)
    own = tiny_log.dense[rows, tiny_log.schema.feature_names.index("own_count")]
    assert 0 < own.astype(bool).sum() < own.size
    counted = batch.counted[batch.mask > 0]
    assert [head.name for head in batch.heads] == ["purchase", "trial", "discount"]
    np.testing.assert_array_equal(counted[:, 1], own == 0)
    assert (counted[:, [0, 2]] == 1).all()


def test_a_page_without_events_keeps_one_masked_event(tiny_log):
    empty = np.flatnonzero((tiny_log.sequence_rows < 0).all(axis=1))
    if empty.size == 0:
        pytest.skip("every shopper of the tiny log has a past")
    batch = make_batch(tiny_log, empty[:1])
    assert batch.sequence_mask.tolist() == [[0.0]]


@settings(max_examples=20, deadline=None)
@given(most=st.integers(1, 40), seed=st.integers(0, 99))
def test_sampled_candidates_keep_positives_and_order(tiny_log, train_pages, most, seed):
    pages = train_pages[-6:]
    batch = make_batch(tiny_log, pages, most=most, random=np.random.default_rng(seed))
    whole = make_batch(tiny_log, pages)
    for index in range(pages.size):
        kept = batch.products[batch.candidates[index, batch.mask[index] > 0]].tolist()
        shown = whole.products[whole.candidates[index, whole.mask[index] > 0]].tolist()
        assert len(kept) == min(most, len(shown))
        places = [shown.index(row) for row in kept]
        assert places == sorted(places)
        positives = int(whole.labels[index, :, 0].sum())
        assert int(batch.labels[index, :, 0].sum()) == min(positives, most)


def test_a_sample_is_the_same_for_the_same_seed_and_zero_keeps_all(tiny_log, train_pages):
    pages = train_pages[-6:]
    first, second, other = (
        make_batch(tiny_log, pages, most=5, random=np.random.default_rng(seed)).dense
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(
        make_batch(tiny_log, pages, most=0, random=np.random.default_rng(1)).dense,
        make_batch(tiny_log, pages).dense,
    )


def test_an_epoch_takes_every_page_once_and_depends_on_seed_and_epoch(tiny_log, train_pages):
    def order(seed):
        return epoch_order(tiny_log, train_pages, 16, 1.0, seed)

    assert sorted(np.concatenate(order((1, 0))).tolist()) == sorted(train_pages.tolist())
    assert all(batch.size <= 16 for batch in order((1, 0)))
    assert len(order((1, 0))) == -(-train_pages.size // 16)
    same = [np.array_equal(a, b) for a, b in zip(order((1, 0)), order((1, 0)), strict=True)]
    assert all(same)
    for other in ((1, 1), (2, 0)):
        assert np.concatenate(order(other)).tolist() != np.concatenate(order((1, 0))).tolist()


def test_a_lower_power_draws_small_categories_more_often(tiny_log):
    pages = tiny_log.pages_of("train", "search")
    category = tiny_log.categories[tiny_log.offsets[pages]]
    values, counts = np.unique(category, return_counts=True)
    small = values[counts.argmin()]
    expected = (counts**0.0 / (counts**0.0).sum())[counts.argmin()]

    def share(power):
        drawn = [
            page
            for epoch in range(10)
            for batch in epoch_order(tiny_log, pages, 16, power, (1, epoch))
            for page in batch.tolist()
        ]
        return np.mean(tiny_log.categories[tiny_log.offsets[drawn]] == small)

    assert share(1.0) == pytest.approx(counts.min() / counts.sum(), abs=1e-9)
    # power 0: every category alike
    assert share(0.0) == pytest.approx(expected, abs=0.04)


def test_batches_in_order_cover_all_pages_longest_first(tiny_log, train_pages):
    batches = list(batches_in_order(train_pages, tiny_log, 500))
    assert sorted(np.concatenate(batches).tolist()) == sorted(train_pages.tolist())
    sizes = np.diff(tiny_log.offsets)
    longest = [sizes[batch].max() for batch in batches]
    assert longest == sorted(longest, reverse=True)
    assert all(batch.size == 1 or batch.size * sizes[batch].max() <= 500 for batch in batches)
    assert list(batches_in_order(train_pages[:0], tiny_log, 500)) == []


def test_rows_of_lists_candidates_page_after_page(tiny_log):
    rows = rows_of(tiny_log, np.array([3, 1]))
    first = np.arange(tiny_log.offsets[3], tiny_log.offsets[4])
    second = np.arange(tiny_log.offsets[1], tiny_log.offsets[2])
    assert rows.tolist() == [*first, *second]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_shares_hold_of_their_pages_what_the_whole_batch_does(count, tiny_log, train_pages):
    pages = train_pages[[0, 5, -1, 9]]

    def batch(share: Share):
        return make_batch(tiny_log, pages, most=5, random=np.random.default_rng(3), share=share)

    whole = batch(Share())
    assert whole.place is None
    taken = []
    for number in range(count):
        part = batch(Share(number, count))
        place = part.place
        assert place is not None
        own = place.pages
        taken += own.tolist()
        for name in ("pages", "mask", "categories", "dense", "labels", "targets", "counted",
                     "sequence_features", "sequence_mask", "surface", "queries"):  # fmt: skip
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[own])
        np.testing.assert_array_equal(part.products, whole.products[place.products])
        for name in ("candidates", "sequence"):
            got, want = getattr(part, name), getattr(whole, name)[own]
            np.testing.assert_array_equal(part.products[got], whole.products[want])
        assert (place.page_count, place.product_count) == (4, whole.products.size)
        np.testing.assert_array_equal(place.page_categories, whole.categories[:, 0])
    assert sorted(taken) == [0, 1, 2, 3]


def test_a_share_without_a_page_has_one_that_counts_nothing(tiny_log, train_pages):
    part = make_batch(tiny_log, train_pages[:2], share=Share(2, 3))
    assert part.pages.tolist() == [train_pages[0]]
    assert part.mask.any()
    assert not part.counted.any()

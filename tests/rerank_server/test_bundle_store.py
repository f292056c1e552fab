"""Bundles that change while pages are reranked: tried out, promoted, rolled back, refused."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rerank_server.bundle_store import BundleChangeError, Bundles, BundleStore, warm_up
from rerank_server.contract.errors import BundleError
from rerank_server.page import SearchPage
from rerank_server.reranker import Reranker
from tests.rerank_server.scorers import ConstantScorer, FailingScorer, SlowScorer, with_scorer
from tests.rerank_server.tiny_bundle import NOW

ANYWHERE = Path()
PAGE = SearchPage(["dog-1", "milk-2", "milk-1"], retrieval_scores=[3, 2, 1], time=NOW)


def open_reranker(bundle, products) -> Reranker:
    return Reranker.open(bundle, products, threads=1)


@pytest.fixture
def store(tiny_reranker) -> BundleStore[Reranker]:
    return BundleStore(tiny_reranker, open_reranker)


def ids(bundles: Bundles[Reranker]) -> tuple[str, str | None, str | None]:
    """What is current, previous and the challenger."""
    previous, tried = bundles.previous, bundles.challenger
    return (
        bundles.current.bundle.manifest.bundle_id,
        previous.bundle.manifest.bundle_id if previous else None,
        tried.bundle_id if tried else None,
    )


def test_a_bundle_is_tried_out_promoted_and_rolled_back(store, tiny_folders, other_folders):
    one = store.bundles.current.bundle.manifest.bundle_id
    assert ids(store.bundles) == (one, None, None)
    loaded = store.load(other_folders.bundle, other_folders.products)
    other = loaded.challenger.bundle_id
    assert other != one
    assert ids(loaded) == (one, None, other)
    assert loaded.choose("anybody") is loaded.current  # no page yet
    assert ids(store.promote()) == (other, one, None)
    assert ids(store.roll_back()) == (one, other, None)
    assert ids(store.roll_back()) == (other, one, None)


def test_rolling_back_ends_a_trial_first(store, other_folders):
    one = store.bundles.current
    store.load(other_folders.bundle, other_folders.products)
    store.divert(canary_percent=100, shadow=False)
    assert store.bundles.choose("anybody") is not one
    assert store.roll_back().choose("anybody") is one
    with pytest.raises(BundleChangeError, match="roll back: got no change yet"):
        store.roll_back()


def test_bundle_and_products_change_together(store, other_folders):
    before = store.bundles
    store.load(other_folders.bundle, other_folders.products)
    after = store.promote()
    assert before.current.products is not after.current.products
    # a request that began before ends with what it began with
    ranked = before.current.rerank(PAGE)
    assert ranked.bundle_id == before.current.bundle.manifest.bundle_id
    assert after.current.rerank(PAGE).bundle_id != ranked.bundle_id


def test_a_canary_answers_the_same_shoppers_always(store, other_folders):
    store.load(other_folders.bundle, other_folders.products)
    bundles = store.divert(canary_percent=30, shadow=False)
    shoppers = [f"shopper {number}" for number in range(2_000)]
    chosen = [bundles.choose(shopper) for shopper in shoppers]
    assert chosen == [bundles.choose(shopper) for shopper in shoppers]
    share = sum(one is bundles.challenger.served for one in chosen) / len(chosen)
    assert share == pytest.approx(0.3, abs=0.04)
    assert bundles.choose(None) is bundles.current


@pytest.mark.parametrize("percent", [-1.0, 100.5, float("nan")])
def test_a_share_out_of_range_is_refused(store, other_folders, percent):
    store.load(other_folders.bundle, other_folders.products)
    with pytest.raises(BundleChangeError, match=r"canary_percent: got .*, want 0 to 100"):
        store.divert(canary_percent=percent, shadow=False)


def test_no_challenger_cannot_be_promoted_or_diverted(store):
    with pytest.raises(BundleChangeError, match="challenger: got none"):
        store.promote()
    with pytest.raises(BundleChangeError, match="challenger: got none"):
        store.divert(canary_percent=5, shadow=False)


@pytest.mark.parametrize("name", ["scorer.onnx", "golden.json", "tokenizer.json"])
def test_a_changed_file_never_takes_over_and_is_named(store, broken_copy, name):
    folders = broken_copy(name)
    before = store.bundles
    with pytest.raises(BundleChangeError, match=rf"{name}: got sha256 .* as in the manifest"):
        store.load(folders.bundle, folders.products)
    assert store.bundles is before


def test_a_bundle_out_of_tolerance_never_takes_over(store, out_of_tolerance):
    before = store.bundles
    with pytest.raises(BundleChangeError, match=r"golden pages: got a difference of 0\.001"):
        store.load(out_of_tolerance.bundle, out_of_tolerance.products)
    assert store.bundles is before


def test_a_product_store_of_another_bundle_never_takes_over(store, tiny_folders, other_folders):
    with pytest.raises(BundleChangeError, match=r"got a store built with bundle .* build it again"):
        store.load(other_folders.bundle, tiny_folders.products)


def test_folders_that_are_not_there_are_named(store, tmp_path):
    with pytest.raises(BundleChangeError, match=r"manifest\.json: got No such file or directory"):
        store.load(tmp_path / "nothing", tmp_path)


def test_an_error_nobody_expected_keeps_its_text_in_the_log(tiny_reranker, tmp_path, caplog):
    def fail(bundle, products) -> Reranker:
        raise MemoryError("secret")

    store = BundleStore(tiny_reranker, fail)
    with pytest.raises(BundleChangeError, match="got MemoryError, want a bundle") as caught:
        store.load(tmp_path, tmp_path)
    assert "secret" not in str(caught.value)
    assert "secret" in caplog.text


def test_a_bundle_that_cannot_score_does_not_pass_the_warm_up(tiny_reranker):
    failing = with_scorer(tiny_reranker, ConstantScorer(float("nan")))
    store = BundleStore(tiny_reranker, lambda *_: failing)
    with pytest.raises(BundleChangeError, match=r"warm-up: got .* for 1 candidates, want scores"):
        store.load(ANYWHERE, ANYWHERE)
    warm_up(tiny_reranker)


def test_a_second_load_at_the_same_time_is_refused(tiny_reranker):
    loading, may_end = threading.Event(), threading.Event()

    def slow(bundle, products):
        loading.set()
        assert may_end.wait(10)
        return tiny_reranker

    store = BundleStore(tiny_reranker, slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(store.load, ANYWHERE, ANYWHERE)
        assert loading.wait(10)
        with pytest.raises(BundleChangeError, match="load: got a second load"):
            store.load(ANYWHERE, ANYWHERE)
        may_end.set()
        assert first.result().challenger == store.bundles.challenger
    assert store.load(ANYWHERE, ANYWHERE).challenger is not None  # the first has ended


def test_a_load_that_failed_lets_the_next_begin(tiny_reranker):
    def fail(bundle, products) -> Reranker:
        raise BundleError("broken")

    store = BundleStore(tiny_reranker, fail)
    for _ in range(2):
        with pytest.raises(BundleChangeError, match="broken"):
            store.load(ANYWHERE, ANYWHERE)


def figures_after(store, condition):
    """The figures of the challenger once `condition` holds."""
    end = time.monotonic() + 10
    while True:
        figures = store.bundles.challenger.figures()
        if condition(figures):
            return figures
        assert time.monotonic() < end, figures
        time.sleep(0.005)


def with_challenger(
    tiny_reranker, challenger: Reranker, *, shadow: bool = True
) -> BundleStore[Reranker]:
    store = BundleStore(tiny_reranker, lambda *_: challenger)
    store._bundles = Bundles(tiny_reranker)
    store.load(ANYWHERE, ANYWHERE)
    store.divert(canary_percent=0, shadow=shadow)
    return store


def test_a_shadow_is_scored_compared_and_not_returned(store, other_folders):
    store.load(other_folders.bundle, other_folders.products)
    bundles = store.divert(canary_percent=0, shadow=True)
    ranked = bundles.current.rerank(PAGE)
    store.shadow(PAGE, ranked, bundles)
    figures = figures_after(store, lambda seen: seen.shadow_pages == 1)
    # by the other bundle the order is the opposite one
    other = bundles.challenger.served.rerank(PAGE)
    assert other.candidate_ids == ranked.candidate_ids[::-1]
    assert figures.rank_agreement == -1.0
    assert figures.same_first_share == 0.0
    assert figures.current_us[0] > 0
    assert figures.challenger_us[0] > 0
    store.close()


def test_shadow_pages_that_come_too_fast_are_skipped(tiny_reranker):
    store = with_challenger(tiny_reranker, with_scorer(tiny_reranker, SlowScorer(0.05)))
    ranked = tiny_reranker.rerank(PAGE)
    for _ in range(10):
        store.shadow(PAGE, ranked, store.bundles)
    figures = figures_after(store, lambda seen: seen.shadow_pages == 1)
    assert figures.shadow_skipped == 9
    store.close()


def test_a_shadow_that_fails_is_counted_and_harms_nobody(tiny_reranker, monkeypatch):
    challenger = with_scorer(tiny_reranker, ConstantScorer(0.5))
    store = with_challenger(tiny_reranker, challenger)
    challenger.scorer = FailingScorer(MemoryError("full"))
    ranked = tiny_reranker.rerank(PAGE)
    for number in (1, 2):
        store.shadow(PAGE, ranked, store.bundles)
        figures_after(store, lambda seen, number=number: seen.shadow_degraded == number)
    store.close()


def test_without_a_shadow_nothing_is_scored_twice(tiny_reranker):
    scorer = SlowScorer(0)
    store = with_challenger(tiny_reranker, with_scorer(tiny_reranker, scorer), shadow=False)
    warmed_up = scorer.begun
    store.shadow(PAGE, tiny_reranker.rerank(PAGE), store.bundles)
    assert store._shadow_worker is None
    assert scorer.begun == warmed_up


def test_a_bundle_that_was_replaced_leaves_no_memory(store, tiny_folders, other_folders):
    store.load(other_folders.bundle, other_folders.products)
    store.promote()
    served = store.bundles.current
    served.rerank(PAGE)
    graph = weakref.ref(served.scorer)
    queries, products = weakref.ref(served._queries), weakref.ref(served.products)
    del served
    gc.collect()
    gc.disable()  # it must not need the collector
    try:
        for _ in range(2):
            store.load(tiny_folders.bundle, tiny_folders.products)
            store.promote()
        assert (graph(), queries(), products()) == (None, None, None)
    finally:
        gc.enable()

"""What every retriever must do; each test runs on tantivy and on a real Elasticsearch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy.demo.errors import EmptyQueryError, RetrievalRequestError
from deploy.demo.retrieval.elasticsearch_index import ElasticsearchIndex
from deploy.demo.retrieval.order import SIGNALS
from deploy.demo.retrieval.retriever import Retriever
from deploy.demo.retrieval.tantivy_index import TantivyIndex
from tests.deploy.demo.retrieval.small_catalogue import random_catalogue, small_catalogue


@pytest.fixture(scope="module")
def tantivy_retriever(tmp_path_factory: pytest.TempPathFactory) -> TantivyIndex:
    folder: Path = tmp_path_factory.mktemp("tantivy")
    return TantivyIndex.open(folder, small_catalogue(), show_progress=False)


@pytest.fixture(scope="module")
def elasticsearch_retriever(elasticsearch_url: str) -> Iterator[ElasticsearchIndex]:
    index = ElasticsearchIndex.open(
        elasticsearch_url,
        small_catalogue(),
        alias="crossrank-products-small",
        timeout_s=10,
        show_progress=False,
    )
    yield index
    index.close()


@pytest.fixture(params=["tantivy", pytest.param("elasticsearch", marks=pytest.mark.elasticsearch)])
def retriever(request: pytest.FixtureRequest) -> Retriever:
    found: Retriever = request.getfixturevalue(f"{request.param}_retriever")
    return found


def search(retriever: Retriever, query: str, place: str | None = None, limit: int = 100, own=()):
    return retriever.search(query, place=place, limit=limit, own=own)


def test_every_word_must_match_and_sales_give_the_order(retriever):
    found = search(retriever, "milk")
    assert found.ids == ("skim", "bar", "whole", "twin", "oat")
    expected = [math.log1p(sales) for sales in (90, 50, 30, 30, 3)]
    np.testing.assert_allclose(found.scores, expected, rtol=1e-6)
    assert found.scores.dtype == np.float32
    assert search(retriever, "milk whole").ids == ("whole", "twin")
    assert search(retriever, "whole ham").ids == ()


def test_sales_of_the_place_weigh_one_and_a_half(retriever):
    found = search(retriever, "milk", place="north")
    # oat: ln 4 + 1.5 ln 25 = 6.2146; bar: ln 51 + 1.5 ln 3 = 5.5797; skim: ln 91 = 4.5109;
    # whole: ln 31 + 1.5 ln 2 = 4.4737; twin: ln 31 = 3.4340
    assert found.ids == ("oat", "bar", "skim", "whole", "twin")
    np.testing.assert_allclose(found.scores, [6.2146, 5.5797, 4.5109, 4.4737, 3.4340], atol=1e-4)


def test_equal_scores_keep_catalogue_order(retriever):
    assert search(retriever, "milk whole 1 gal").ids == ("whole", "twin")


def test_signals_come_from_the_place(retriever):
    found = search(retriever, "milk", place="north")
    assert tuple(found.signals) == SIGNALS
    # oat, bar, skim (not listed: nothing sold, no promotion), whole, twin
    np.testing.assert_array_equal(found.signals["store_sales_28d"], [5, 1, 0, 0, 0])
    np.testing.assert_array_equal(found.signals["store_sales_91d"], [24, 2, 0, 1, 0])
    np.testing.assert_array_equal(found.signals["promotion_display"], [2, 3, 0, 0, 0])
    np.testing.assert_array_equal(found.signals["promotion_mailer"], [np.nan, 4, 0, 0, 1])


def test_without_a_place_every_signal_is_unknown(retriever):
    found = search(retriever, "milk")
    for column in found.signals.values():
        assert column.shape == (5,)
        assert np.isnan(column).all()


def test_a_place_that_sold_nothing_orders_by_sales_anywhere(retriever):
    found = search(retriever, "milk", place="south")
    assert found.ids == ("skim", "bar", "whole", "twin", "oat")
    np.testing.assert_array_equal(found.signals["store_sales_91d"], np.zeros(5))


def test_own_past_products_that_match_are_added_beyond_the_limit(retriever):
    own = ["oat", "gum", "skim", "gone", "twin"]
    found = search(retriever, "milk", limit=2, own=own)
    assert found.ids == ("skim", "bar", "twin", "oat")
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize(
    "query",
    [
        "milk AND NOT chocolate",
        "text:milk^9 text:chocolate",
        "*",
        "*:*",
        "/.*/",
        "[a TO z]",
        '"milk gum"~10',
        "milk) OR (gum",
        '{"match_all": {}}',
        "\\",
    ],
)
def test_query_syntax_is_only_words(retriever, query):
    assert search(retriever, query).ids == ()


def test_symbols_emoji_and_control_characters_only_separate_words(retriever):
    expected = ("whole", "twin")
    for query in (
        "milk 🥛 whole",
        "+milk +whole",
        "milk\x00whole",
        "\x1bmilk/whole\u202e",
        "\uff2dilk~WHOLE",
    ):
        assert search(retriever, query).ids == expected
    assert search(retriever, "monterey jack's").ids == ("jack",)
    assert search(retriever, "Cafe\u0301 0.5").ids == ("cafe",)


def test_a_query_of_symbols_finds_nothing(retriever):
    found = search(retriever, "🍕", place="north")
    assert found.ids == ()
    assert found.scores.shape == (0,)
    assert not found.approximate


def test_a_very_long_query_is_answered(retriever):
    assert search(retriever, "milk " * 5000).ids[0] == "skim"
    assert search(retriever, "x" * 100_000).ids == ()


@pytest.mark.parametrize("query", ["mlik", "milks", "mil", "nilk chocolat"])
def test_one_edit_is_forgiven_when_nothing_matches(retriever, query):
    found = search(retriever, query)
    if query == "mil":  # too short to be a slip
        assert found.ids == ()
        assert not found.approximate
    else:
        assert "bar" in found.ids
        assert found.approximate


def test_two_edits_are_not_forgiven(retriever):
    assert search(retriever, "chacalate").ids == ()


def test_an_exact_match_is_not_widened(retriever):
    found = search(retriever, "gum")
    assert found.ids == ("gum",)
    assert not found.approximate


@pytest.mark.parametrize("query", ["", "   ", "\x00"])
def test_an_empty_query_is_an_error(retriever, query):
    with pytest.raises(EmptyQueryError):
        search(retriever, query)


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_limit_out_of_range_is_an_error(retriever, limit):
    with pytest.raises(RetrievalRequestError, match=f"limit: got {limit}, want 1 to 1000"):
        search(retriever, "milk", limit=limit)


def test_an_unknown_place_is_an_error_in_searches_and_slots(retriever):
    with pytest.raises(RetrievalRequestError, match="nearest: north"):
        search(retriever, "nothing matches", place="norht")
    with pytest.raises(RetrievalRequestError, match="nearest: north"):
        retriever.slot("home", category=None, place="norht", limit=3, own=())


def test_home_takes_the_most_popular_and_all_own_products(retriever):
    found = retriever.slot("home", category=None, place=None, limit=3, own=["gum", "oat"])
    assert found.ids == ("skim", "bar", "whole", "oat", "gum")


def test_a_category_slot_stays_in_its_category(retriever):
    found = retriever.slot("category", category="candy", place=None, limit=1, own=["gum", "oat"])
    assert found.ids == ("bar", "gum")


def test_a_promotion_mixes_the_categories_that_the_place_promotes(retriever):
    found = retriever.slot("promotion", category=None, place="north", limit=2, own=["twin", "gum"])
    assert found.ids == ("oat", "bar", "twin")
    assert retriever.slot("promotion", category="candy", place="north", limit=9, own=()).ids == (
        "bar",
    )
    assert retriever.slot("promotion", category=None, place="south", limit=9, own=()).ids == ()


def test_filter_ids_narrow_a_slot(retriever):
    found = retriever.slot(
        "home", category=None, place=None, limit=9, own=["skim"], filter_ids=["gum", "bar", "gone"]
    )
    assert found.ids == ("bar", "gum")


@pytest.mark.parametrize(
    ("surface", "message"),
    [
        ("promotions", r"surface: got 'promotions'.*nearest: promotion"),
        ("category", "category: got none"),
        ("promotion", "place: got none"),
    ],
)
def test_a_slot_that_lacks_what_it_needs_is_an_error(retriever, surface, message):
    with pytest.raises(RetrievalRequestError, match=message):
        retriever.slot(surface, category=None, place=None, limit=3, own=())


@pytest.mark.elasticsearch
def test_both_engines_give_equal_pages_on_a_catalogue_full_of_ties(
    elasticsearch_client, elasticsearch_url, tmp_path
):
    catalogue = random_catalogue(7)
    embedded = TantivyIndex.open(tmp_path, catalogue, show_progress=False)
    real = ElasticsearchIndex.open(elasticsearch_url, catalogue, timeout_s=10, show_progress=False)
    random = np.random.default_rng(0)
    own = [f"p{row}" for row in random.choice(400, 60, replace=False)]
    for query in ("milk", "milk ham", "tea coffee cola", "breda", "coffe rice"):
        for place in (None, "place0", "place4"):
            first = embedded.search(query, place=place, limit=20, own=own)
            second = real.search(query, place=place, limit=20, own=own)
            assert first.ids == second.ids
            assert first.approximate == second.approximate
            np.testing.assert_array_equal(first.scores, second.scores)
            for name in SIGNALS:
                np.testing.assert_array_equal(first.signals[name], second.signals[name])
    for surface in ("home", "category", "promotion"):
        first, second = (
            each.slot(surface, category="b", place="place1", limit=20, own=own)
            for each in (embedded, real)
        )
        assert first.ids == second.ids
        assert len(first.ids) > 20
    real.close()

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from deploy.demo.errors import CatalogueError, RetrievalRequestError
from deploy.demo.retrieval.catalogue import Catalogue, PlaceTable
from tests.deploy.demo.retrieval.small_catalogue import (
    NAN,
    place_rows,
    product,
    random_catalogue,
    small_catalogue,
)

NOWHERE = PlaceTable({})


def test_an_empty_catalogue_is_refused():
    with pytest.raises(CatalogueError, match="products: got 0, want at least 1"):
        Catalogue([], NOWHERE)


def test_an_id_given_twice_is_refused():
    products = [product("a", "x", "c", 1), product("b", "x", "c", 1), product("a", "y", "c", 1)]
    with pytest.raises(CatalogueError, match="id 'a': got it for products 0 and 2"):
        Catalogue(products, NOWHERE)


@pytest.mark.parametrize(("id_", "length"), [("", 0), ("x" * 10_000, 10_000), ("é" * 257, 514)])
def test_an_id_of_another_length_is_refused(id_, length):
    with pytest.raises(CatalogueError, match=f"got {length} bytes, want 1 to 512"):
        Catalogue([product(id_, "x", "c", 1)], NOWHERE)


@pytest.mark.parametrize("sales", [-1.0, NAN, float("inf")])
def test_sales_that_are_no_count_are_refused(sales):
    with pytest.raises(CatalogueError, match="sales of product 'b'"):
        Catalogue([product("a", "x", "c", 1), product("b", "x", "c", sales)], NOWHERE)


@pytest.mark.parametrize("vector", [[0.0, 0.0], [1.0, NAN], [1.0, 2.0, 3.0]])
def test_vectors_without_direction_or_of_another_width_are_refused(vector):
    products = [product("a", "x", "c", 1, [1.0, 0.0]), product("b", "x", "c", 1, vector)]
    with pytest.raises(CatalogueError, match="vector of product 'b'"):
        Catalogue(products, NOWHERE)


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({5: (0, 0, 0, 0)}, "rows of place 'north'"),
        ({0: (0, -1, 0, 0)}, "sales_91d of place 'north'"),
        ({0: (NAN, 0, 0, 0)}, "sales_28d of place 'north'"),
        ({0: (0, 0, float("inf"), 0)}, "promotion_display of place 'north'"),
    ],
)
def test_a_place_that_does_not_fit_is_refused(entries, named):
    with pytest.raises(CatalogueError, match=named):
        Catalogue([product("a", "x", "c", 1)], PlaceTable({"north": place_rows(entries)}))


def test_place_rows_must_ascend():
    listed = place_rows({0: (0, 0, 0, 0), 1: (0, 0, 0, 0)})
    swapped = dataclasses.replace(listed, rows=listed.rows[::-1].copy())
    products = [product("a", "x", "c", 1), product("b", "x", "c", 1)]
    with pytest.raises(CatalogueError, match="want ascending rows"):
        Catalogue(products, PlaceTable({"north": swapped}))


def test_equal_catalogues_have_equal_hashes_and_any_change_another():
    first = random_catalogue(1)
    assert random_catalogue(1).content_hash == first.content_hash
    products = list(first.products)
    products[3] = dataclasses.replace(products[3], sales_56d=99.0)
    assert Catalogue(products, first.places).content_hash != first.content_hash
    moved = dict(first.places.by_place)
    sales = moved["place2"].sales_91d.copy()
    sales[0] += 1
    moved["place2"] = dataclasses.replace(moved["place2"], sales_91d=sales)
    assert Catalogue(first.products, PlaceTable(moved)).content_hash != first.content_hash


def test_unknown_names_are_refused_with_the_nearest_known():
    catalogue = small_catalogue()
    with pytest.raises(RetrievalRequestError, match=r"place: got 'nort'.*nearest: north"):
        catalogue.places.of("nort")
    with pytest.raises(RetrievalRequestError, match=r"category: got 'dary'.*nearest: dairy"):
        catalogue.category_rows("dary")


def test_ids_become_rows_once_and_unknown_ones_are_left_out():
    rows = small_catalogue().rows_of_ids(["gum", "gone", "whole", "gum"])
    np.testing.assert_array_equal(rows, [5, 0])

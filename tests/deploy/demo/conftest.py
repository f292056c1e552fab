"""The small shop with its index, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.demo.retrieval.catalogue import Catalogue
from deploy.demo.retrieval.tantivy_index import TantivyIndex
from deploy.demo.shop import Shop
from tests.deploy.demo.small_shop import NOW, write_small_shop


@pytest.fixture(scope="session")
def small_prepared(tmp_path_factory) -> Path:
    return write_small_shop(tmp_path_factory.mktemp("small-shop"))


@pytest.fixture(scope="session")
def small_shop(small_prepared) -> Shop:
    return Shop.open(small_prepared, NOW)


@pytest.fixture(scope="session")
def small_index(small_shop, tmp_path_factory) -> TantivyIndex:
    catalogue = Catalogue(small_shop.catalogue_products(), small_shop.place_table())
    return TantivyIndex.open(tmp_path_factory.mktemp("index"), catalogue, show_progress=False)

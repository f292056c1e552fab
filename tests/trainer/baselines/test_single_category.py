"""One category of a log alone: its pages and nothing else, kept apart from the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainer.baselines.single_category import (
    categories_of_pages,
    of_category,
    single_config,
    trained_categories,
)
from trainer.encoding.pageset import encoded_pages


@pytest.fixture(scope="module")
def of_pages(tiny_log):
    return categories_of_pages(tiny_log)


def test_search_pages_have_a_category_and_promotion_pages_mix_them(tiny_log, of_pages):
    search = tiny_log.pages_of("test", "search")
    first = tiny_log.categories[tiny_log.offsets[search]]
    np.testing.assert_array_equal(of_pages[search], first)
    assert (of_pages[tiny_log.pages_of("test", "promotion")] == -1).any()


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_pages_of_a_category_are_those_of_the_whole_log(tiny_log, of_pages, split):
    row = int(trained_categories(tiny_log, "search", of_pages)[-1])
    alone = of_category(tiny_log, row, of_pages)
    whole = encoded_pages(tiny_log, split, "search")
    expected = whole.select(whole.page_categories() == row)
    got = encoded_pages(alone, split, "search")
    for name in ("offsets", "dense", "labels", "rows", "shopper", "time", "positives_total"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), name)
    assert (got.categories == row).all()
    assert alone.sequence_rows.shape[0] == alone.splits.size == (of_pages == row).sum()


def test_what_is_trained_on_a_category_is_kept_under_a_name_of_its_own(tiny_log, of_pages):
    row = int(trained_categories(tiny_log, "search", of_pages)[0])
    alone = of_category(tiny_log, row, of_pages)
    assert alone.folder.parent == tiny_log.folder.parent
    name = tiny_log.schema.categories[row]
    assert alone.folder.name == f"{tiny_log.folder.name}-{row}-{name}"


def test_a_category_with_a_slash_in_its_name_opens_no_folder(tiny_log, of_pages):
    row = int(trained_categories(tiny_log, "search", of_pages)[0])
    names = tuple("a/b .. c" if r == row else n for r, n in enumerate(tiny_log.schema.categories))
    renamed = replace(tiny_log, schema=replace(tiny_log.schema, categories=names))
    alone = of_category(renamed, row, of_pages)
    assert alone.folder == tiny_log.folder.parent / f"{tiny_log.folder.name}-{row}-a-b-c"


def test_categories_come_with_fewest_training_pages_first(tiny_log, of_pages):
    rows = trained_categories(tiny_log, "search", of_pages)
    train = of_pages[tiny_log.pages_of("train", "search")]
    counts = [int((train == row).sum()) for row in rows.tolist()]
    assert counts == sorted(counts)
    assert min(counts) > 0


def test_a_network_of_one_category_differs_in_its_pages_alone(tiny_log, tiny_config):
    single = single_config(tiny_config, tiny_log, "snacks")
    assert single.surfaces == ("search", "discovery")
    assert single.name == "tiny-snacks"
    assert single.trees == tiny_config.trees
    assert single.width == tiny_config.width

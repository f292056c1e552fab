from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.encoding.catalogue import read_catalogue, with_factors
from trainer.encoding.collaborative import fit_collaborative
from trainer.encoding.features import fit_past
from trainer.errors import PreparedError


def test_every_array_has_one_row_per_product_and_the_unknown_one(tiny_log, tiny_catalogue):
    size = tiny_log.prepared.size
    for name in (
        "text", "categories", "levels", "attributes", "identities", "factors", "factors_present",
    ):  # fmt: skip
        array = getattr(tiny_catalogue, name)
        assert array.shape[0] == size + 1, name
        assert (array[-1] == 0).all(), name
    assert len(tiny_catalogue.records) == size


def test_only_products_bought_before_validation_have_an_identity(tiny_log, tiny_catalogue):
    prepared = tiny_log.prepared
    begin = prepared.page_times[prepared.page_splits == 1].min()
    early = np.unique(prepared.interaction_rows[prepared.interaction_times < begin])
    late = np.setdiff1d(prepared.interaction_rows, early)
    assert late.size
    assert (tiny_catalogue.identities[late] == 0).all()
    rows = tiny_catalogue.identities[early]
    assert sorted(rows.tolist()) == list(range(1, early.size + 1))
    for row in early[:20]:
        record = tiny_catalogue.records[row]
        named = tiny_catalogue.vocabulary.identity_row(record["id"])
        assert named == tiny_catalogue.identities[row]


def test_factors_are_those_of_the_day_training_starts(tiny_log, tiny_catalogue):
    prepared = tiny_log.prepared
    start = int(prepared.page_times[prepared.page_splits == 0].min()) // SECONDS_PER_DAY
    past = fit_past(prepared, [start])
    np.testing.assert_array_equal(tiny_catalogue.factors, past.fits[0].factors)
    bought = prepared.interaction_rows[prepared.interaction_times < start * SECONDS_PER_DAY]
    present = np.zeros(prepared.size + 1)
    present[bought] = 1
    np.testing.assert_array_equal(tiny_catalogue.factors_present, present)
    later = fit_collaborative(past.purchases, prepared.size, start + 60)
    assert not np.allclose(later.factors, tiny_catalogue.factors)


def test_rows_of_names_agree_with_the_vocabulary(tiny_catalogue):
    vocabulary, catalogue = tiny_catalogue.vocabulary, tiny_catalogue
    for row in range(0, len(catalogue.records), 97):
        record = catalogue.records[row]
        path = record["category_path"]
        names = [" > ".join(path[:-1] or path), " > ".join(path)]
        assert vocabulary.level_rows(names) == catalogue.levels[row].tolist()
        values = [record["brand"], record["size"]]
        assert vocabulary.attribute_rows(values) == catalogue.attributes[row].tolist()
    sizes = catalogue.sizes()
    assert sizes.identities == len(vocabulary.identities) + 1
    assert all(catalogue.levels[:, i].max() < size for i, size in enumerate(sizes.levels))
    assert catalogue.categories.max() < sizes.categories


def test_no_query_is_the_last_row_and_category_zero_is_the_mean(tiny_log, tiny_catalogue):
    assert tiny_catalogue.query_text.shape[0] == len(tiny_log.prepared.queries) + 1
    assert (tiny_catalogue.query_text[-1] == 0).all()
    texts = tiny_catalogue.category_text
    np.testing.assert_allclose(texts[0], texts[1:].mean(axis=0), atol=1e-6)


def test_factors_of_another_day_bring_their_presence_along(tiny_catalogue):
    factors = np.zeros_like(tiny_catalogue.factors)
    factors[3] = 1.0
    moved = with_factors(tiny_catalogue, factors)
    assert np.flatnonzero(moved.factors_present).tolist() == [3]
    assert moved.factors_present.dtype == np.float32


@pytest.mark.parametrize(("split", "what"), [(1, "training"), (0, "validation or test")])
def test_a_log_without_pages_of_a_split_is_refused(tiny_log, split, what):
    prepared = tiny_log.prepared
    all_alike = replace(prepared, page_splits=np.full_like(prepared.page_splits, split))
    with pytest.raises(PreparedError, match=f"got no {what} pages"):
        read_catalogue(all_alike)

"""The schema: what the network sees, and JSON that refuses what it does not know."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from rerank_server.contract.errors import SchemaError
from rerank_server.contract.schema import (
    FeatureSpec,
    index_of,
    normalise,
    schema_from_json,
    schema_to_json,
)
from tests.rerank_server.contract.shop import SCHEMA


def test_normalise_transforms_standardises_clips_and_fills():
    schema = replace(
        SCHEMA,
        features=(
            FeatureSpec("a", "g", "log1p", mean=math.log(2), scale=math.log(2)),
            FeatureSpec("b", "g", mean=1.0, scale=2.0),
        ),
    )
    raw = np.array([[3, 5], [-1, 100], [np.nan, np.nan], [np.inf, -np.inf]], np.float32)
    want = [[1, 2], [-1, 5], [0, 0], [5, -5]]
    np.testing.assert_allclose(normalise(schema, raw), want, rtol=1e-6)


def test_a_page_of_any_shape_normalises_alike():
    raw = np.random.default_rng(0).normal(size=(2, 3, len(SCHEMA.features))).astype(np.float32)
    whole = normalise(SCHEMA, raw)
    np.testing.assert_array_equal(whole[1], normalise(SCHEMA, raw[1]))


def test_json_reads_back_equal():
    assert schema_from_json(json.loads(json.dumps(schema_to_json(SCHEMA)))) == SCHEMA


def test_an_unknown_key_is_refused():
    with pytest.raises(SchemaError, match="got unknown key 'colour'"):
        schema_from_json(schema_to_json(SCHEMA) | {"colour": 1})


def test_a_missing_key_is_refused():
    value = schema_to_json(SCHEMA)
    del value["surfaces"]
    with pytest.raises(SchemaError, match="surfaces"):
        schema_from_json(value)


def test_groups_come_in_order_of_first_appearance():
    assert SCHEMA.groups[:3] == ("retrieval", "popularity", "price")


def test_an_unknown_name_gets_the_nearest():
    assert index_of("pet", SCHEMA.categories, "category") == 2
    with pytest.raises(SchemaError, match=r"category: got 'pets', want .* \(nearest: pet\)"):
        index_of("pets", SCHEMA.categories, "category")

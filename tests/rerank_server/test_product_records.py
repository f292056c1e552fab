"""Lines of a catalogue with named vectors: read, checked, and what another bundle makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rerank_server.contract.schema import VectorSpec
from rerank_server.product_records import ProductError, RecordReader
from tests.rerank_server.changing import product


@pytest.fixture
def reader(tiny_bundle) -> RecordReader:
    vectors = (VectorSpec("image", 2), VectorSpec("sound", 3))
    schema = replace(tiny_bundle.schema, vectors=vectors)
    return RecordReader(replace(tiny_bundle, manifest=replace(tiny_bundle.manifest, schema=schema)))


def test_vectors_are_optional_and_each_for_itself(reader):
    assert reader.read(product("a"), "here").vectors == {}
    assert reader.read(product("a", vectors=None), "here").vectors == {}
    given = {"image": [1, 2.5], "sound": None}
    held = reader.read(product("a", vectors=given), "here").vectors
    assert set(held) == {"image"}
    assert held["image"].dtype == np.float32
    assert held["image"].tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([1.0], r"here: got vectors \[1\.0\], want lists by name"),
        ({"imgae": [1.0, 2.0]}, r"got 'imgae', want some of image, sound \(nearest: image\)"),
        ({"image": [1.0]}, r"vectors\.image: got 1 numbers, want a list of 2, or null for none"),
        ({"image": 1.0}, r"vectors\.image: got 1\.0, want a list of 2"),
        ({"image": [1.0, "2"]}, r"vectors\.image: got '2', want finite numbers"),
        ({"image": [1.0, True]}, r"vectors\.image: got 'True', want finite numbers"),
        ({"image": [1.0, float("nan")]}, r"vectors\.image: got 'nan', want finite numbers"),
        ({"image": [1e39, 0.0]}, r"vectors\.image: got '1e\+39', want finite numbers"),
    ],
)
def test_a_vector_that_breaks_a_rule_is_refused(reader, vectors, message):
    with pytest.raises(ProductError, match=message):
        reader.read(product("a", vectors=vectors), "here")


def test_a_change_made_for_another_bundle_goes_without_vectors_that_this_one_cannot_read(reader):
    told = {"image": [1.0, 2.0, 3.0], "smell": [1.0], "sound": [1.0, 2.0, 3.0]}
    held = reader.read(product("a", vectors=told), "here", lenient=True).vectors
    assert set(held) == {"sound"}


def test_a_bundle_without_vectors_takes_none(tiny_bundle):
    with pytest.raises(ProductError, match="got 'image', want some of none"):
        RecordReader(tiny_bundle).read(product("a", vectors={"image": [1.0]}), "here")

"""Texts, reviews and vectors of a log on their way from its files to the product tower's inputs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.trainer.log_files_for_tests import DAY, START
from tests.trainer.logs.test_query_log import CONFIG as PLAIN
from tests.trainer.logs.test_query_log import EVENTS, PRODUCTS, SEARCHES
from tests.trainer.tiny_sentences import vector_of, write_encoder
from trainer.encoding.catalogue import read_catalogue, with_vectors_at
from trainer.encoding.dataset import read_prepared
from trainer.encoding.text_files import TextVectorMaker
from trainer.encoding.words import read_tokenizer
from trainer.errors import LogConfigError, LogFileError
from trainer.logs.prepare import prepare

MORE = """
text_encoder = "encoder/encoder.onnx"
text_max_tokens = 6
reviews_file = "reviews.jsonl"
reviews_text = "words"
[[vector]]
name = "sound"
file = "sound.npy"
ids = "sound.txt"
width = 3
"""
REVIEWS = [
    {"product": "a", "rating": 5, "time": START + 5 * DAY, "words": "milk"},
    {"product": "a", "rating": 3, "time": START + 6 * DAY, "words": "milk"},
    {"product": "b", "rating": 1, "time": START + 6 * DAY, "words": "dog " * 200_000},
    {"product": "b", "rating": 2, "time": START + 7 * DAY, "words": ""},
    # of the time of training pages, and of test pages
    {"product": "c", "rating": 4, "time": START + 12 * DAY, "words": "thing"},
    {"product": "a", "rating": 1, "time": START + 28 * DAY, "words": "dog"},
]


def write(folder, more=MORE):
    products = [dict(product) for product in PRODUCTS]
    products[0]["title"] = "Milk " * 200_000
    products[1]["title"] = ""
    tables = {
        "products": products, "searches": SEARCHES, "events": EVENTS, "reviews": REVIEWS,
    }  # fmt: skip
    for name, rows in tables.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    write_encoder(folder / "encoder")
    np.save(folder / "sound.npy", np.array([[1.0, 2, 3]]))
    (folder / "sound.txt").write_text("c\n")
    path = folder / "log.toml"
    path.write_text(PLAIN + more, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    return read_prepared(prepare(write(folder), folder, progress=False))


def test_every_text_is_encoded_by_the_configured_encoder(prepared):
    catalogue = read_catalogue(prepared)
    assert catalogue.sizes().text == 5
    # a text of a megabyte is its first tokens, and an empty one is none
    np.testing.assert_allclose(catalogue.text[0], vector_of(["milk"] * 4), atol=1e-6)
    assert catalogue.text[[1, 3]].tolist() == [[0.0] * 5] * 2
    np.testing.assert_allclose(catalogue.category_text[2], vector_of(["toys"]), atol=1e-6)
    np.testing.assert_allclose(
        catalogue.category_text[0], catalogue.category_text[1:].mean(axis=0), atol=1e-6
    )
    assert catalogue.query_text.shape == (len(prepared.queries) + 1, 5)
    assert catalogue.query_text[-1].tolist() == [0.0] * 5
    assert catalogue.sentences is not None
    assert catalogue.sentences.tokenizer != read_tokenizer()


def test_learning_knows_no_review_of_the_time_of_a_page(prepared):
    catalogue = read_catalogue(prepared)
    named = {vector.name: vector.values for vector in catalogue.vectors}
    assert list(named) == ["sound", "review_numbers", "reviews"]
    assert named["sound"].tolist() == [[0, 0, 0], [0, 0, 0], [1, 2, 3], [0, 0, 0]]
    # c is reviewed while training pages are shown
    assert not named["reviews"][2].any()
    assert not named["review_numbers"][2].any()
    np.testing.assert_allclose(named["reviews"][0], vector_of(["milk"]), atol=1e-6)
    np.testing.assert_allclose(named["reviews"][1], vector_of(["dog"] * 4) / 2, atol=1e-6)
    assert named["review_numbers"][0, 2] > 0 > named["review_numbers"][1, 2]


def test_an_export_knows_what_was_known_at_its_moment(prepared):
    before = read_catalogue(prepared)
    seen = {}
    for day in (15, 26, 40):
        moved = with_vectors_at(before, prepared, START + day * DAY)
        seen[day] = {vector.name: vector.values for vector in moved.vectors}
    np.testing.assert_array_equal(seen[15]["reviews"], before.vectors[2].values)
    # the test pages begin at day 25, and what comes later is in no file
    assert seen[26]["reviews"][2].any()
    np.testing.assert_array_equal(seen[40]["reviews"], seen[26]["reviews"])
    np.testing.assert_array_equal(seen[40]["sound"], before.vectors[0].values)


def test_the_manifest_tells_what_the_files_held(prepared):
    entries = {entry["name"]: entry for entry in prepared.manifest["vectors"]}
    assert entries["sound"]["counts"] == {
        "rows": 1, "products": 1, "unknown_ids": 0, "empty": 0,
    }  # fmt: skip
    assert list(entries["reviews"]["counts"]["before"].values()) == [4, 5, 5]
    assert prepared.manifest["text"] == {"max_tokens": 6, "width": 5}


def test_reviews_go_with_the_static_word_vectors_too(tmp_path):
    more = 'reviews_file = "reviews.jsonl"\nreviews_text = "words"\n'
    held = read_prepared(prepare(write(tmp_path, more), tmp_path, progress=False))
    assert [vector.spec.width for vector in read_catalogue(held).vectors] == [4, 256]
    assert "text" not in held.manifest


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ('text_encoder = "gone.onnx"', LogFileError, "text_encoder: got no file .*gone.onnx"),
        ('reviews_file = "gone.tsv"', LogFileError, "reviews: got no file .*gone.tsv"),
        ('text_encoder = ""', LogConfigError, "text_encoder: got an empty name"),
        ('text_tokenizer = "t.json"', LogConfigError, "got 't.json' with text_encoder 'static'"),
        ("text_max_tokens = 0", LogConfigError, "text_max_tokens: got 0, want 1 to 8192"),
        (
            '[[vector]]\nname = "sound"\nfile = "gone.npy"\nids = "sound.txt"\nwidth = 3',
            LogFileError,
            "vector sound: got no file .*gone.npy",
        ),
    ],
)
def test_what_is_not_there_is_named_before_anything_is_prepared(tmp_path, more, error, message):
    path = write(tmp_path, more + "\n")
    with pytest.raises(error, match=message):
        prepare(path, tmp_path, progress=False)
    assert not list(tmp_path.glob("prepared-*"))


def test_static_vectors_need_no_file(tmp_path):
    from trainer.logs.log_config import read_log_config  # noqa: PLC0415

    maker = TextVectorMaker(read_log_config(write(tmp_path, "")), tmp_path)
    assert (maker.width, maker.sentences) == (256, None)
    assert maker.write(tmp_path, ["milk"], [], ["toys"]) is None

from __future__ import annotations

import json
from datetime import UTC

import numpy as np
import polars as pl
import pytest

from trainer.errors import LogColumnError, LogConfigError, LogFileError, VectorError
from trainer.logs.log_config import parse_log_config
from trainer.logs.named_vectors import write_vectors
from trainer.logs.vector_sources import VectorSource, parse_vector_sources

IDS = ["a", "b", "c", "d"]


def source(file="image.parquet", **changes):
    return VectorSource(**{"name": "image", "file": file, "width": 2, "id": "product"} | changes)


def write(folder, rows, suffix="parquet"):
    frame = pl.DataFrame(
        {"product": [row[0] for row in rows], "vector": [row[1] for row in rows]},
        schema={"product": pl.String, "vector": pl.List(pl.Float64)},
    )
    path = folder / f"image.{suffix}"
    if suffix == "parquet":
        frame.write_parquet(path)
    else:
        frame.write_ndjson(path)
    return path.name


def written(folder, *sources):
    described = write_vectors(folder, sources, folder, IDS)
    return described, [np.load(folder / f"vector_{one['name']}.npy") for one in described]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_rows_are_matched_by_id_and_others_are_counted(tmp_path, suffix):
    rows = [("c", [1.0, 2.0]), ("gone", [9.0, 9.0]), ("a", [3.0, 4.0]), ("d", [0.0, 0.0])]
    file = write(tmp_path, [*rows, ("b", None), (None, [1.0, 1.0])], suffix)
    described, (values,) = written(tmp_path, source(file))
    assert values.dtype == np.float32
    # the last row is the unknown product's
    assert values.tolist() == [[3, 4], [0, 0], [1, 2], [0, 0], [0, 0]]
    assert described == [
        {
            "name": "image",
            "width": 2,
            "counts": {"rows": 6, "products": 2, "unknown_ids": 2, "empty": 2},
            "known_at": [],
        }
    ]


def test_an_array_of_rows_comes_with_a_file_of_ids(tmp_path):
    np.save(tmp_path / "image.npy", np.array([[1, 2], [3, 4]], np.float16))
    (tmp_path / "ids.txt").write_text("d\nb\n")
    _, (values,) = written(tmp_path, source("image.npy", ids="ids.txt"))
    assert values.tolist() == [[0, 0], [3, 4], [0, 0], [1, 2], [0, 0]]
    (tmp_path / "ids.txt").write_text("d\n")
    with pytest.raises(LogFileError, match=r"ids\.txt: got 1 ids, want 2, one for each row of"):
        written(tmp_path, source("image.npy", ids="ids.txt"))


def test_whole_numbers_are_vectors_too(tmp_path):
    (tmp_path / "image.jsonl").write_text(json.dumps({"product": "b", "vector": [1, 2]}) + "\n")
    _, (values,) = written(tmp_path, source("image.jsonl"))
    assert values[1].tolist() == [1, 2]


def test_mixed_widths_are_refused_with_their_counts(tmp_path):
    file = write(tmp_path, [("a", [1.0, 2.0]), ("b", [1.0, 2.0]), ("c", [1.0, 2.0, 3.0])])
    with pytest.raises(
        VectorError, match=r"image\.parquet: got vectors 2 of width 2, 1 of width 3, want all of 2"
    ):
        written(tmp_path, source(file))


def test_numbers_that_are_not_finite_are_refused_by_id_with_their_count(tmp_path):
    rows = [("a", [1.0, 2.0]), ("b", [float("nan"), 1.0]), ("c", [float("inf"), 1.0])]
    file = write(tmp_path, [*rows, ("d", [None, 1.0])])
    with pytest.raises(
        VectorError, match=r"got 3 with a NaN, an infinite number or none \(of b, c"
    ):
        written(tmp_path, source(file))


def test_a_product_with_two_rows_is_refused(tmp_path):
    file = write(tmp_path, [("a", [1.0, 2.0]), ("a", [1.0, 2.0])])
    with pytest.raises(VectorError, match="got 1 rows of a product that has one already"):
        written(tmp_path, source(file))


def test_a_column_that_holds_no_lists_is_refused(tmp_path):
    file = write(tmp_path, [("a", [1.0, 2.0])])
    with pytest.raises(LogColumnError, match=r"got values of type String, want lists of numbers"):
        written(tmp_path, source(file, column="product"))
    with pytest.raises(LogColumnError, match=r"want 'vectr' \(nearest: vector\)"):
        written(tmp_path, source(file, column="vectr"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widht": 2}, r"unknown key 'widht', .*\(nearest: width\)"),
        ({"width": 0}, "got width 0, want 1 to 16384"),
        ({"width": "2"}, r"width: got '2', want int"),
        ({"name": "Image"}, "got 'Image', want small letters"),
        ({"name": "image_present"}, "no _present last"),
        ({"name": "text"}, "got 'text', want none of text, structure"),
        ({"file": "image.npy"}, "want ids with a .npy file"),
        ({"ids": "ids.txt"}, "want ids with a .npy file and with no other"),
    ],
)
def test_a_table_that_breaks_a_rule_is_refused(changes, message):
    table = {"name": "image", "file": "image.parquet", "width": 2} | changes
    with pytest.raises(LogConfigError, match=message):
        parse_vector_sources([table])


def test_a_name_twice_and_a_missing_key_are_refused():
    table = {"name": "image", "file": "image.parquet", "width": 2}
    with pytest.raises(LogConfigError, match="got 'image' 2 times, want each once"):
        parse_vector_sources([table, table])
    with pytest.raises(LogConfigError, match="vector 0: got no width, want one"):
        parse_vector_sources([{"name": "image", "file": "x.parquet"}])
    with pytest.raises(LogConfigError, match=r"want tables \[\[vector\]\]"):
        parse_vector_sources("image.npy")


def test_a_log_without_vectors_keeps_the_settings_that_its_fingerprint_is_made_of():
    values = {
        "adapter": "tables",
        "interactions_file": "orders.tsv",
        **{
            name: np.datetime64(day).astype("datetime64[s]").item().replace(tzinfo=UTC)
            for name, day in (
                ("train_from", "2017-01-01"),
                ("validation_from", "2017-01-02"),
                ("test_from", "2017-01-03"),
            )
        },
    }
    plain = parse_log_config(values).to_json()
    assert not {"vector", "text_encoder", "text_max_tokens", "reviews_file"} & set(plain)
    image = {"name": "image", "file": "image.parquet", "width": 2}
    told = parse_log_config(values | {"vector": [image], "reviews_file": "r.tsv"}).to_json()
    assert told["vector"][0] == image | {"id": "id", "column": "vector", "ids": ""}
    assert told["reviews_file"] == "r.tsv"
    assert "text_encoder" not in told

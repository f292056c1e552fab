"""A folder's format is told by its columns, and what fits none is refused by name."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import polars as pl
import pytest

from tests.trainer.formats.folders import WRITERS
from trainer.formats.columns import FORMATS, find_tables, format_name, read_folder
from trainer.formats.errors import FormatError


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_told_by_its_columns(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    found, tables = find_tables(tmp_path, read_folder(tmp_path))
    assert found == name
    assert set(tables) == set(FORMATS[name])


def test_a_compressed_table_is_read_like_a_plain_one(tmp_path: Path) -> None:
    text = "User_ID,product-id,Rating,timestamp\nu,p,5,1\n"
    (tmp_path / "r.csv.gz").write_bytes(gzip.compress(text.encode()))
    found, tables = find_tables(tmp_path, read_folder(tmp_path))
    assert found == "ratings"
    assert tables["ratings"][0].text("product") == ["p"]


def test_an_unknown_folder_is_refused_with_the_nearest_format(tmp_path: Path) -> None:
    pl.DataFrame({"user": ["u"], "item": ["p"], "ts": [1]}).write_csv(tmp_path / "log.csv")
    with pytest.raises(FormatError) as error:
        find_tables(tmp_path, read_folder(tmp_path))
    assert "log.csv (user, item, ts)" in str(error.value)
    wants = "interactions+items, which wants a table of items with the columns id, category"
    assert f"nearest: {wants}" in str(error.value)


def test_another_format_than_the_named_one_is_told(tmp_path: Path) -> None:
    WRITERS["pairs"](tmp_path)
    with pytest.raises(FormatError, match=r"want a table of ratings .*; it would fit pairs"):
        find_tables(tmp_path, read_folder(tmp_path), "ratings")


def test_a_misspelt_format_is_refused_with_the_nearest() -> None:
    with pytest.raises(FormatError, match=re.escape("got 'judgements'") + ".*nearest: judgments"):
        format_name("judgements")


def test_an_empty_folder_a_file_and_a_broken_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="got no table"):
        read_folder(tmp_path)
    broken = tmp_path / "x.parquet"
    broken.write_bytes(b"no parquet")
    with pytest.raises(FormatError, match=r"x\.parquet: got"):
        read_folder(tmp_path)
    with pytest.raises(FormatError, match="want a folder"):
        read_folder(broken)

"""Product stores, as the command line builds them."""

from __future__ import annotations

import json

import numpy as np

from rerank_server.commands.root import main
from rerank_server.product_store import ProductStore
from tests.rerank_server.changing import open_live, product, version_of


def test_build_builds_and_logs_progress(tiny_folders, tiny_bundle, tmp_path, capsys):
    arguments = ["--bundle", tiny_folders.bundle, "--snapshot", tiny_folders.snapshot]
    out = tmp_path / "store"
    assert main(["store", "build", *map(str, arguments), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert "5 products" in captured.out
    assert '"done": 5, "total": 5' in captured.err
    assert ProductStore.open(out, tiny_bundle).size == 5


def store_command(*arguments) -> int:
    return main(["store", *map(str, arguments)])


def write_lines(path, *products) -> None:
    path.write_text("".join(json.dumps(item) + "\n" for item in products), encoding="utf-8")


def test_build_says_what_int8_costs(tiny_folders, tiny_bundle, tmp_path, capsys):
    out = tmp_path / "store"
    folders = ["--bundle", tiny_folders.bundle, "--snapshot", tiny_folders.snapshot, "--out", out]
    assert store_command("build", *folders, "--vectors", "int8") == 0
    assert "int8 on the golden pages: largest_score_difference" in capsys.readouterr().out
    assert ProductStore.open(out, tiny_bundle).vectors[[0]].dtype == np.float32
    assert store_command("build", *folders, "--vectors", "int4") == 1
    want = "vectors: got 'int4', want one of float32, float16, int8"
    assert f"crossrank: {want}" in capsys.readouterr().err


def test_show_names_what_a_store_holds(tiny_folders, tmp_path, capsys):
    changes = tmp_path / "changes"
    write_lines(tmp_path / "new.jsonl", product("a"))
    arguments = ["--changes", changes, "--bundle", tiny_folders.bundle]
    assert store_command("upsert", tmp_path / "new.jsonl", *arguments) == 0
    capsys.readouterr()
    assert store_command("show", tiny_folders.products, "--changes", changes, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["products"], shown["vectors"], shown["changes_to_come"]) == (5, "float32", 1)
    assert shown["bytes"] == sum(shown["files"].values())
    assert store_command("show", tiny_folders.products) == 0
    assert "vectors.npy" in capsys.readouterr().out


def test_upserts_and_deletes_reach_a_server_that_runs(tiny_folders, tmp_path, capsys):
    changes = tmp_path / "changes"
    reranker, live = open_live(tiny_folders, changes)
    write_lines(tmp_path / "new.jsonl", product("a", 1), product("b", 2), product("a", 3))
    arguments = ["--changes", changes, "--bundle", tiny_folders.bundle]
    assert store_command("upsert", tmp_path / "new.jsonl", *arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"products": 3, "change": 2}
    live.catch_up()
    assert [version_of(reranker.products, name) for name in "ab"] == [3, 2]
    assert store_command("delete", "a", "milk-1", "--changes", changes) == 0
    assert "2 ids changed, up to change 4" in capsys.readouterr().out
    (tmp_path / "ids.txt").write_text("b\n", encoding="utf-8")
    assert store_command("delete", "--file", tmp_path / "ids.txt", "--changes", changes) == 0
    live.catch_up()
    assert [version_of(reranker.products, name) for name in "ab"] == [0, 0]
    assert reranker.products.size == 4
    live.close()


def test_a_broken_line_is_named_with_what_is_stored(tiny_folders, tmp_path, capsys):
    lines = [product(f"p{number}") for number in range(1_001)]
    write_lines(tmp_path / "new.jsonl", *lines, product("x", text=7))
    arguments = ["--changes", tmp_path / "changes", "--bundle", tiny_folders.bundle]
    assert store_command("upsert", tmp_path / "new.jsonl", *arguments) == 1
    message = capsys.readouterr().err
    assert "new.jsonl:1002: text: got '7', want a text or null; the 1000 before are" in message
    assert store_command("upsert", tmp_path / "none.jsonl", *arguments) == 1
    assert "none.jsonl: got No such file or directory, want" in capsys.readouterr().err


def test_delete_wants_ids_or_a_file(tmp_path, capsys):
    assert store_command("delete", "--changes", tmp_path) == 2
    assert "want one of them" in capsys.readouterr().err

"""`crossrank rerank`: the same page in process and by a server."""

from __future__ import annotations

import asyncio
import io
import json

import pytest

from rerank_server.commands.root import main
from tests.rerank_server.tiny_bundle import NOW
from tests.rerank_server.token_files import write_tokens

IDS = ["dog-1", "milk-2", "milk-1"]
PAGE = {
    "candidate_ids": IDS,
    "retrieval_scores": [3, "NaN", 1],
    "time": NOW,
    "explain": True,
}


@pytest.fixture
def page_file(tmp_path):
    path = tmp_path / "page.json"
    path.write_text(json.dumps(PAGE))
    return str(path)


@pytest.fixture
def in_process(tiny_folders):
    return ["--bundle", str(tiny_folders.bundle), "--products", str(tiny_folders.products)]


async def test_a_server_and_this_process_give_the_same_page(
    tiny_server, in_process, page_file, capsys
):
    assert main(["rerank", page_file, "--json", *in_process]) == 0
    here = json.loads(capsys.readouterr().out)
    arguments = ["rerank", page_file, "--json", "--server", f"localhost:{tiny_server.port}"]
    assert await asyncio.to_thread(main, arguments) == 0
    there = json.loads(capsys.readouterr().out)
    for name in ("candidate_ids", "scores", "probabilities", "explanations", "bundle_id"):
        assert here[name] == there[name]
    assert sorted(here["candidate_ids"]) == sorted(IDS)
    assert here["degraded_reason"] is None


def test_the_page_may_come_on_standard_input(in_process, monkeypatch, capsys):
    stdin = io.TextIOWrapper(io.BytesIO(json.dumps(PAGE).encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["rerank", "-", *in_process]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["rank", "candidate", "retrieved", "at"]
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "want a RerankRequest as JSON"),
        ('{"candidates": ["a"]}', "candidates"),
        ('{"candidate_ids": []}', "candidates: got 0, want 1 to 1000"),
        ('{"candidate_ids": ["a", "a"]}', "got 'a' at 0 and at 1, want each candidate once"),
    ],
)
def test_a_broken_page_is_named(content, message, tmp_path, in_process, capsys):
    path = tmp_path / "page.json"
    path.write_text(content)
    assert main(["rerank", str(path), *in_process]) == 1
    assert message in capsys.readouterr().err


def test_a_missing_page_and_half_a_pair_of_folders_are_named(page_file, in_process, capsys):
    assert main(["rerank", "nowhere.json", *in_process]) == 1
    assert "nowhere.json: got No such file" in capsys.readouterr().err
    assert main(["rerank", page_file, *in_process[:2]]) == 1
    assert "got one of them, want both or none" in capsys.readouterr().err


def test_no_server_is_one_line_and_status_1(page_file, capsys):
    assert main(["rerank", page_file, "--server", "localhost:1"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("crossrank: localhost:1: got unavailable")
    assert error.count("\n") == 1


def test_a_token_file_that_holds_none_is_named(page_file, tmp_path, capsys):
    path = tmp_path / "token"
    write_tokens(path, "shop")  # the server's file, not a client's
    assert main(["rerank", page_file, "--token-file", str(path)]) == 1
    assert "that are no token, want one line" in capsys.readouterr().err
    assert main(["rerank", page_file, "--token-file", "nowhere"]) == 1
    assert "nowhere: got No such file or directory, want a token" in capsys.readouterr().err

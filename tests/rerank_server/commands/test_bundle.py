"""Bundles on disk, as the command line shows them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from rerank_server.bundle_store import BundleStore
from rerank_server.commands.root import main
from rerank_server.contract.bundle import write_bundle
from rerank_server.doors import Doors
from rerank_server.reranker import Reranker
from tests.rerank_server.tiny_bundle import tiny_content


def test_verify_says_what_it_found(tiny_folders, capsys):
    assert main(["bundle", "verify", str(tiny_folders.bundle)]) == 0
    out = capsys.readouterr().out
    assert "is whole" in out
    assert "2 golden pages differ by at most 0, within 1e-05" in out


def test_verify_says_it_to_programs(tiny_folders, tiny_bundle, capsys):
    assert main(["bundle", "verify", str(tiny_folders.bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "bundle_id": tiny_bundle.manifest.bundle_id,
        "created": tiny_bundle.manifest.created,
        "golden_pages": 2,
        "largest_difference": 0.0,
        "tolerance": 1e-5,
    }


def test_verify_of_nothing_exits_with_1_and_one_line(tmp_path, capsys):
    assert main(["bundle", "verify", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("crossrank: ")
    assert "manifest.json: got No such file" in error
    assert error.count("\n") == 1


def test_show_says_what_a_bundle_holds(tiny_folders, tiny_bundle, capsys):
    assert main(["bundle", "show", str(tiny_folders.bundle)]) == 0
    out = capsys.readouterr().out
    assert f"bundle_id: {tiny_bundle.manifest.bundle_id}" in out
    assert "objectives: 2: purchase, trial" in out
    assert "scorer.onnx" in out
    assert main(["bundle", "show", str(tiny_folders.bundle), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["objectives"] == ["purchase", "trial"]
    assert facts["files"] == tiny_bundle.manifest.files


def test_show_of_a_changed_bundle_names_the_file(broken_copy, capsys):
    assert main(["bundle", "show", str(broken_copy("scorer.onnx").bundle)]) == 1
    assert "scorer.onnx: got sha256" in capsys.readouterr().err


def test_diff_says_what_differs_and_nothing_else(tiny_folders, other_folders, capsys):
    one, other = str(tiny_folders.bundle), str(other_folders.bundle)
    assert main(["bundle", "diff", one, one]) == 0
    assert capsys.readouterr().out == "the bundles are the same\n"
    assert main(["bundle", "diff", one, other, "--json"]) == 0
    found = {entry["what"] for entry in json.loads(capsys.readouterr().out)}
    assert {"bundle_id", "files.scorer.onnx"} <= found
    assert not found & {"objectives", "files.tokenizer.json", "created"}
    assert main(["bundle", "diff", one, other]) == 0
    assert "files.scorer.onnx" in capsys.readouterr().out


async def run(*arguments: str) -> int:
    """A command beside the server of this event loop."""
    return await asyncio.to_thread(main, list(arguments))


@pytest.fixture
async def admin_address(serving, tiny_reranker):
    def open_reranker(bundle, products) -> Reranker:
        return Reranker.open(bundle, products, threads=1)

    store = BundleStore(tiny_reranker, open_reranker)
    running = await serving(store, doors=Doors(admin=True))
    return f"localhost:{running.port}"


async def test_a_bundle_is_loaded_tried_out_promoted_and_rolled_back(
    admin_address, other_folders, tiny_bundle, capsys
):
    at = ("--server", admin_address, "--json")
    one = tiny_bundle.manifest.bundle_id
    folders = (str(other_folders.bundle), str(other_folders.products))
    assert await run("bundle", "load", *folders, *at) == 0
    held = json.loads(capsys.readouterr().out)
    other = held["challenger_id"]
    want = {"current_id": one, "previous_id": "", "challenger_id": other}
    assert held == want | {"processes_restarted": 0}
    assert await run("bundle", "canary", "12.5", "--shadow", *at) == 0
    capsys.readouterr()
    assert await run("bundle", "status", *at) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["bundle_id"] == one
    assert status["challenger"]["canary_percent"] == 12.5
    assert status["challenger"]["shadow"] is True
    assert await run("bundle", "status", "--server", admin_address) == 0
    assert "canary_percent" in capsys.readouterr().out
    assert await run("bundle", "promote", *at) == 0
    assert json.loads(capsys.readouterr().out)["current_id"] == other
    assert await run("bundle", "rollback", "--server", admin_address) == 0
    assert capsys.readouterr().out == (
        f"current: {one[:12]}\nprevious: {other[:12]}\nchallenger: none\n"
    )


async def test_what_the_server_refuses_is_one_line_and_status_1(
    admin_address, out_of_tolerance, capsys
):
    at = ("--server", admin_address)
    assert await run("bundle", "promote", *at) == 1
    error = capsys.readouterr().err
    assert "got failed_precondition: challenger: got none, want a bundle loaded first" in error
    assert await run("bundle", "canary", "101", *at) == 2
    capsys.readouterr()
    folders = (str(out_of_tolerance.bundle), str(out_of_tolerance.products))
    assert await run("bundle", "load", *folders, *at) == 1
    assert "golden" in capsys.readouterr().err


async def test_a_server_without_admin_says_so(tiny_server, capsys):
    assert await run("bundle", "promote", "--server", f"localhost:{tiny_server.port}") == 1
    assert "unimplemented" in capsys.readouterr().err


def test_show_says_what_serves_each_category_and_why(tmp_path, capsys):
    choice = {"surface": "search", "category": "pet", "choice": "own trees", "reason": "ahead"}
    content = replace(tiny_content(), report={"guard": [choice]})
    write_bundle(tmp_path / "bundle", content)
    assert main(["bundle", "show", str(tmp_path / "bundle")]) == 0
    assert "search pet  own trees: ahead" in capsys.readouterr().out
    assert main(["bundle", "show", str(tmp_path / "bundle"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["guard"] == {"search pet": "own trees: ahead"}

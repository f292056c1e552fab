"""`crossrank policy`: rules checked, and what they do to a page."""

from __future__ import annotations

import json

import pytest

from rerank_server.commands.root import main
from tests.rerank_server.tiny_bundle import NOW

RULES = """
[[pin]]
name = "milk first"
products = ["milk-2"]
position = 1

[[hide]]
name = "no dogs"
products = ["dog-1"]
"""


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(RULES)
    return path


@pytest.fixture
def in_process(tiny_folders):
    return ["--bundle", str(tiny_folders.bundle), "--products", str(tiny_folders.products)]


def test_check_counts_the_rules_and_compiles_them_for_a_bundle(rules, in_process, capsys):
    assert main(["policy", "check", str(rules)]) == 0
    assert "policy.toml: 2 rules, version " in capsys.readouterr().out
    assert main(["policy", "check", str(rules), *in_process, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rules"] == ["milk first", "no dogs"]
    assert len(found["policy_version"]) == 64


def test_check_names_what_is_wrong(rules, in_process, capsys):
    rules.write_text(RULES.replace("position", "postion"))
    assert main(["policy", "check", str(rules)]) == 1
    assert "nearest: position" in capsys.readouterr().err
    rules.write_text('[[hide]]\nname = "a"\nbrands = ["a brand never seen"]\n')
    assert main(["policy", "check", str(rules)]) == 0
    assert main(["policy", "check", str(rules), *in_process]) == 1
    assert "a brand never seen" in capsys.readouterr().err


def test_trace_says_which_rule_moved_what(rules, in_process, tmp_path, capsys):
    page = tmp_path / "page.json"
    page.write_text(json.dumps({"candidate_ids": ["dog-1", "milk-1", "milk-2"], "time": NOW}))
    assert main(["policy", "trace", str(rules), str(page), *in_process, "--json"]) == 0
    trace = json.loads(capsys.readouterr().out)
    assert trace["candidate_ids"] == ["milk-2", "milk-1"]
    assert trace["hidden"] == 1
    assert set(trace["rules"]) == {"milk first", "no dogs"}
    assert main(["policy", "trace", str(rules), str(page), *in_process]) == 0
    out = capsys.readouterr().out
    assert [line.split()[-1] for line in out.splitlines() if "no dogs" in line] == ["hidden"]

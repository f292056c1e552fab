"""`crossrank token`."""

from __future__ import annotations

import json

from rerank_server.commands.root import main
from rerank_server.tokens import TokenGate


def test_new_prints_the_entry_apart_from_the_token(tmp_path, capsys):
    assert main(["token", "new", "shop"]) == 0
    captured = capsys.readouterr()
    path = tmp_path / "tokens.toml"
    path.write_text(captured.out)
    assert TokenGate(path).admit(f"Bearer {captured.err.strip()}").token.name == "shop"


def test_new_gives_programs_both_in_one_document(tmp_path, capsys):
    assert main(["token", "new", "shop", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    path = tmp_path / "tokens.toml"
    path.write_text(made["entry"])
    assert TokenGate(path).admit(f"Bearer {made['token']}").token.name == made["name"] == "shop"


def test_new_refuses_a_name_that_the_file_could_not_hold(capsys):
    assert main(["token", "new", "a b"]) == 1
    assert capsys.readouterr().err.startswith("crossrank: name: got 'a b'")

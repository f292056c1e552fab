"""The command line as a whole: its groups, exit statuses, version and completion."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from rerank_server.commands import root
from rerank_server.commands.root import Group, main
from rerank_server.version import server_version

INSTALLED = [group for group in root.GROUPS if find_spec(group.module) is not None]


def test_the_version_is_that_of_the_server(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"crossrank {server_version()}\n"


def test_an_unknown_command_exits_with_2_and_names_the_nearest(capsys):
    assert main(["sreve"]) == 2
    error = capsys.readouterr().err
    assert "crossrank: No such command 'sreve'. Did you mean 'serve'" in error
    assert "try `crossrank --help`" in error


def test_an_unknown_flag_exits_with_2(capsys):
    assert main(["serve", "--bundel", "x"]) == 2
    assert "crossrank: No such option: --bundel" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["bundle"]])
def test_no_command_shows_the_help_and_exits_with_2(arguments, capsys):
    assert main(arguments) == 2
    assert "Usage: crossrank" in capsys.readouterr().out


@pytest.mark.parametrize("group", INSTALLED, ids=lambda group: group.name)
def test_every_group_has_a_help_text(group, capsys):
    assert main([group.name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"crossrank {group.name}" in out
    assert "completion" not in out


def test_an_interrupted_command_exits_with_130(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("rerank_server.tokens.new_token", interrupted)
    assert main(["token", "new", "shop"]) == 130
    assert capsys.readouterr().err == "crossrank: interrupted\n"


def test_a_group_without_its_packages_says_what_to_install_and_leaves_the_others(
    monkeypatch, capsys
):
    name = "rerank_server.commands.token"
    monkeypatch.setitem(sys.modules, "secrets", None)
    for module in (name, "rerank_server.tokens"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    real = importlib.import_module

    def without_a_package(module):
        if module == name:
            raise ModuleNotFoundError("No module named 'polars'", name="polars")
        return real(module)

    monkeypatch.setattr(root, "import_module", without_a_package)
    monkeypatch.setattr(root, "GROUPS", (*root.GROUPS[:1], Group("token", name, "search")))
    assert main(["token", "new", "shop", "--json"]) == 1
    assert capsys.readouterr().err == (
        "crossrank: token: got no module 'polars', want `pip install 'crossrank[search]'`\n"
    )
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert "Not installed: token: got no module 'polars'" in told
    assert "crossrank[search]" in told  # no markup of Rich's


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell):
    environment = os.environ | {
        "_CROSSRANK_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "crossrank bund",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "crossrank bund",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [sys.executable, "-m", "rerank_server"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "bundle" in done.stdout, done.stderr
    assert "store" not in done.stdout


def test_completion_can_be_shown_for_the_shell_in_use(monkeypatch, capsys):
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    with pytest.raises(SystemExit) as ended:
        main(["--show-completion"])
    assert ended.value.code == 0
    assert "complete -o default -F _crossrank_completion crossrank" in capsys.readouterr().out

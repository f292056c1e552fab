"""`crossrank serve`: its settings, and what it refuses before it serves."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import fields

import pytest

from rerank_server.commands.root import main
from rerank_server.settings import Settings


def test_serve_without_folders_names_both_ways_to_give_them(capsys, monkeypatch):
    monkeypatch.delenv("RERANK_BUNDLE", raising=False)
    assert main(["serve"]) == 1
    assert "bundle: got none, want a folder by --bundle or RERANK_BUNDLE" in capsys.readouterr().err


def test_serve_on_a_taken_port_exits_with_1(tiny_folders, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        folders = ["--bundle", tiny_folders.bundle, "--products", tiny_folders.products]
        assert main(["serve", "--port", port, *map(str, folders)]) == 1
    assert f"127.0.0.1:{port}: got an address that is taken" in capsys.readouterr().err


NOWHERE = ["serve", "--bundle", "nowhere", "--products", "nowhere"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7"])
def test_serve_refuses_other_machines_in_clear_text_before_it_reads_a_bundle(host, capsys):
    assert main([*NOWHERE, "--host", host]) == 1
    error = capsys.readouterr().err
    assert f"host: got {host}, which other machines reach in clear text" in error
    assert "want --tls-certificate and --tls-key" in error


@pytest.mark.parametrize("flag", [["--insecure-listen"], ["--insecure-listen", "true"]])
def test_serve_may_be_told_to_listen_in_clear_text(flag, capsys):
    assert main([*NOWHERE, "--host", "0.0.0.0", *flag]) == 1
    assert "nowhere/manifest.json: got No such file" in capsys.readouterr().err


def test_the_metrics_port_is_as_careful(capsys):
    assert main([*NOWHERE, "--metrics-port", "0", "--metrics-host", "0.0.0.0"]) == 1
    assert "metrics_host: got 0.0.0.0, which other machines reach" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tokens", "none.toml"], "none.toml: got No such file or directory, want a readable"),
        (["--shopper-key", "none"], "none: got No such file or directory, want a file with a r"),
        (["--tls-certificate", "c.pem", "--tls-key", "k.pem"], "c.pem and k.pem: got No such fi"),
    ],
)
def test_a_door_that_cannot_be_opened_is_named_before_a_bundle_is_read(flags, message, capsys):
    assert main([*NOWHERE, *flags]) == 1
    assert message in capsys.readouterr().err


def test_spans_without_the_extra_say_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rerank_server.spans", None)
    assert main([*NOWHERE, "--otlp-endpoint", "http://localhost:4317"]) == 1
    assert "want `pip install 'crossrank[otlp]'`" in capsys.readouterr().err


def test_the_help_of_serve_explains_every_setting(capsys):
    assert main(["serve", "--help"]) == 0
    out = capsys.readouterr().out
    for setting in fields(Settings):
        assert f"--{setting.name.replace('_', '-')}" in out
    assert "loopback unless told otherwise" in " ".join(out.split())


def test_starting_to_serve_imports_nothing_of_the_other_commands():
    """A server process carries what it serves with, and starts no later for the others."""
    code = (
        "import sys\n"
        "from rerank_server.commands.root import main\n"
        "assert main(['serve', '--bundle', 'nowhere', '--products', 'nowhere']) == 1\n"
        "unwanted = {'pydantic', 'rich.table', 'starlette', 'elasticsearch'}\n"
        "others = {name for name in sys.modules if name.startswith('rerank_server.commands.')}\n"
        "others -= {f'rerank_server.commands.{name}' for name in "
        "('root', 'serve', 'options', 'setting_flags')}\n"
        "found = unwanted & set(sys.modules) | others\n"
        "sys.exit(f'imported {found}' if found else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

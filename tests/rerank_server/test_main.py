"""The command line: what it prints, and the exit status of what goes wrong."""

from __future__ import annotations

import logging
import socket
import sys
from dataclasses import fields

import pytest

from rerank_server.__main__ import main
from rerank_server.product_store import ProductStore
from rerank_server.settings import Settings
from rerank_server.tokens import TokenGate


@pytest.fixture(autouse=True)
def keep_logging():
    """`main` configures the root logger; give it back as it was."""
    root, ours = logging.getLogger(), logging.getLogger("rerank_server")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], ours.level = before[0], before[2]
    root.setLevel(before[1])


def test_check_bundle_says_what_it_found(tiny_folders, capsys):
    assert main(["check-bundle", str(tiny_folders.bundle)]) == 0
    out = capsys.readouterr().out
    assert "is whole" in out
    assert "2 golden pages differ by at most 0, within 1e-05" in out


def test_check_bundle_of_nothing_exits_with_1_and_one_line(tmp_path, capsys):
    assert main(["check-bundle", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("crossrank: ")
    assert "manifest.json: got No such file" in error
    assert error.count("\n") == 1


def test_build_products_builds_and_logs_progress(
    tiny_folders, tiny_bundle, tmp_path, capsys, keep_logging
):
    arguments = ["--bundle", tiny_folders.bundle, "--snapshot", tiny_folders.snapshot]
    out = tmp_path / "store"
    assert main(["build-products", *map(str, arguments), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert "5 products" in captured.out
    assert '"done": 5, "total": 5' in captured.err
    assert ProductStore.open(out, tiny_bundle).size == 5


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


def test_new_token_prints_the_entry_apart_from_the_token(tmp_path, capsys):
    assert main(["new-token", "shop"]) == 0
    captured = capsys.readouterr()
    path = tmp_path / "tokens.toml"
    path.write_text(captured.out)
    assert TokenGate(path).admit(f"Bearer {captured.err.strip()}").token.name == "shop"
    assert main(["new-token", "a b"]) == 1


def test_an_unknown_command_exits_with_2(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["sreve"])
    assert caught.value.code == 2
    assert "sreve" in capsys.readouterr().err


def test_the_help_of_serve_explains_every_setting(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    out = capsys.readouterr().out
    for setting in fields(Settings):
        assert f"--{setting.name.replace('_', '-')}" in out
    assert "loopback unless told otherwise" in " ".join(out.split())

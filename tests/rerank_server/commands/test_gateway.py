"""`crossrank gateway`."""

from __future__ import annotations

from dataclasses import fields

from rerank_server.commands.root import main
from rerank_server.gateway.settings import GatewaySettings


def test_every_setting_has_a_flag_with_help(capsys):
    assert main(["gateway", "--help"]) == 0
    shown = capsys.readouterr().out
    for setting in fields(GatewaySettings):
        assert f"--{setting.name.replace('_', '-')}" in shown


def test_a_wrong_setting_is_named(capsys):
    assert main(["gateway", "--port", "70000"]) == 1
    assert "crossrank: port: got 70000, want 0 to 65535" in capsys.readouterr().err


def test_an_open_port_in_clear_text_is_refused(capsys):
    assert main(["gateway", "--host", "0.0.0.0", "--port", "0"]) == 1
    assert "host: got 0.0.0.0" in capsys.readouterr().err


def test_an_address_that_is_none_is_refused(capsys):
    assert main(["gateway", "--elasticsearch", "ftp://x", "--port", "0"]) == 1
    assert "elasticsearch: got" in capsys.readouterr().err

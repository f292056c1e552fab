from __future__ import annotations

import pytest

from rerank_server.gateway.errors import GatewaySettingsError
from rerank_server.gateway.rules import read_rules
from rerank_server.gateway.settings import GatewaySettings, read_gateway_settings
from rerank_server.settings import read_settings


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_default():
    variables = {"RERANK_GATEWAY_PORT": "1", "RERANK_GATEWAY_WINDOW": "50", "RERANK_PORT": "9"}
    settings = read_gateway_settings({"port": "2", "window": None}, variables)
    assert (settings.port, settings.window, settings.host) == (2, 50, "127.0.0.1")


def test_several_nodes_are_written_with_commas():
    assert GatewaySettings(elasticsearch="http://a:1, http://b:2,").nodes == (
        "http://a:1",
        "http://b:2",
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"port": "70000"}, "port: got 70000, want 0 to 65535"),
        ({"port": "x"}, "port: got 'x', want a whole number"),
        ({"insecure_listen": "maybe"}, "insecure_listen: got 'maybe', want true or false"),
        ({"elasticsearch": " , "}, r"elasticsearch: got ' , ', want http\(s\)://host:port"),
        ({"log_level": "loud"}, "log_level: got 'loud', want one of"),
        ({"tls_key": "k"}, "tls_certificate and tls_key: got one of them"),
        ({"events_hashed": "true"}, "events_hashed: got it alone, want shopper_key too"),
    ],
)
def test_wrong_settings_are_refused(flags, message):
    with pytest.raises(GatewaySettingsError, match=message):
        read_gateway_settings(flags, {})


def test_an_unknown_variable_is_refused_with_the_nearest_one():
    with pytest.raises(GatewaySettingsError, match="nearest: RERANK_GATEWAY_PORT"):
        read_gateway_settings({}, {"RERANK_GATEWAY_PROT": "1"})


def test_the_server_leaves_the_gateways_variables_alone():
    flags = {"bundle": "b", "products": "p"}
    assert read_settings(flags, {"RERANK_GATEWAY_PORT": "1"}).port == 50061


def test_the_first_rule_that_fits_every_index_is_used(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(
        '[[index]]\npattern = "products-*"\nrerank = true\nid_field = "sku"\n'
        '[[index]]\npattern = "p*"\nwindow = 20\n'
    )
    rules = read_rules(path, 100)
    assert rules.rerank_some
    assert rules.of("products-a,products-b").options.id_field == "sku"
    assert rules.of("products-a,-products-b").rerank
    assert rules.of("products-a,pots").options.window == 20
    assert rules.of("logs").options.window == 100
    assert not rules.of("").rerank


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[index]]\nrerank = true", "pattern: got None, want an index pattern"),
        ('[[index]]\npattern = "a"\nwindw = 3', "windw: got an unknown name.*nearest: window"),
        ('[[index]]\npattern = "a"\nrerank = 1', "rerank: got 1, want true or false"),
        ('[[index]]\npattern = "a"\nshopper_id = "x"', "shopper_id: got it in a rule"),
        ("[[indx]]\n", "got the table 'indx'.*nearest: index"),
        ("[index]\n", "got one table"),
        ("nonsense", "want a TOML file of rules"),
    ],
)
def test_wrong_rules_are_refused(tmp_path, text, message):
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(GatewaySettingsError, match=message):
        read_rules(path, 100)


def test_no_file_of_rules_has_none_and_a_missing_one_is_an_error(tmp_path):
    assert not read_rules(None, 30).rerank_some
    with pytest.raises(GatewaySettingsError, match="want a TOML file"):
        read_rules(tmp_path / "none.toml", 100)

"""Users and roles on a real Elasticsearch that checks them."""

from __future__ import annotations

import json

import pytest
from elasticsearch import AuthorizationException, Elasticsearch

from es_plugin_config.resources import read_resources
from rerank_server.commands.root import main
from tests.es_plugin_config.nodes import ADMIN, PASSWORD, secure_node, with_login

pytestmark = [pytest.mark.elasticsearch, pytest.mark.slow]

EVENT = {"@timestamp": "2026-01-01T00:00:00Z", "action_name": "click"}


@pytest.fixture(scope="module")
def secure_url():
    with secure_node() as url:
        assert main(["es", "apply", "--url", with_login(url, ADMIN, PASSWORD)]) == 0
        yield url


@pytest.fixture
def user(secure_url):
    """A client of a user by the name of his role."""
    opened = []

    def login(role):
        client = Elasticsearch(secure_url, basic_auth=(role, PASSWORD), request_timeout=60)
        opened.append(client)
        return client

    yield login
    for client in opened:
        client.close()


@pytest.mark.parametrize("login", ["", "admin:wrong@", "nobody:wrong@"])
def test_a_wrong_key_is_said_in_one_line_and_changes_nothing(secure_url, login, capsys):
    url = secure_url.replace("://", f"://{login}")
    for command in (["apply"], ["apply", "--check"], ["remove", "--yes"]):
        assert main(["es", *command, "--url", url]) == 1
        error = capsys.readouterr().err
        assert "got status 401" in error
        assert "want a password or an API key that it knows" in error
        assert "wrong" not in error
        assert error.count("\n") == 1
    assert main(["es", "apply", "--check", "--url", with_login(secure_url, ADMIN, PASSWORD)]) == 0


def test_an_api_key_from_a_file_opens_the_cluster(secure_url, user, tmp_path, capsys):
    key = tmp_path / "key"
    key.write_text("bm90OmFrZXk=\n")
    flags = ["--url", secure_url, "--api-key-file", str(key)]
    assert main(["es", "apply", "--check", *flags]) == 1
    assert "got status 401" in capsys.readouterr().err


def test_the_shop_appends_events_and_reads_none(user):
    shop = user("crossrank-shop")
    shop.index(index="ubi_events", document=EVENT, op_type="create", refresh=False)
    for refused in (
        lambda: shop.search(index="ubi_events"),
        lambda: shop.index(index="ubi_queries", document=EVENT, op_type="create"),
        lambda: shop.indices.get_mapping(index="ubi_events"),
    ):
        with pytest.raises(AuthorizationException):
            refused()


def test_the_gateway_reads_events_and_writes_none(user):
    user("crossrank-shop").index(index="ubi_events", document=EVENT, op_type="create")
    gateway = user("crossrank-gateway")
    assert gateway.search(index="ubi_events")["_shards"]["failed"] == 0
    with pytest.raises(AuthorizationException):
        gateway.index(index="ubi_events", document=EVENT, op_type="create")
    with pytest.raises(AuthorizationException):
        gateway.search(index="crossrank-searches")


def test_telemetry_appends_searches_and_the_reader_reads_them(user):
    found = {"@timestamp": "2026-01-01T00:00:00Z", "user_query": "milk"}
    user("crossrank-telemetry").index(
        index="crossrank-searches", document=found, op_type="create", id="1"
    )
    reader = user("crossrank-reader")
    user(ADMIN).indices.refresh(index="crossrank-searches")
    assert reader.count(index="crossrank-searches")["count"] == 1
    with pytest.raises(AuthorizationException):
        reader.index(index="crossrank-searches", document=found, op_type="create")


def test_the_indexer_builds_products_and_nothing_else(secure_url, user, tmp_path, capsys):
    products = tmp_path / "a.jsonl"
    products.write_text(json.dumps({"id": "1", "text": "milk"}) + "\n")
    own = with_login(secure_url, "crossrank-indexer", PASSWORD)
    assert main(["es", "index", str(products), "--url", own]) == 0
    assert "1 products of 1 rows" in capsys.readouterr().out
    other = with_login(secure_url, "crossrank-reader", PASSWORD)
    assert main(["es", "index", str(products), "--url", other]) == 1
    assert "got status 403" in capsys.readouterr().err


def test_the_applier_applies_all_but_roles(secure_url, capsys):
    own = with_login(secure_url, "crossrank-applier", PASSWORD)
    templates = [each for each in read_resources() if "template" in each.api]
    assert main(["es", "apply", "--url", own]) == 0
    assert capsys.readouterr().out.count("unchanged /_") >= len(templates)


def test_the_trial_licence_opens_inference_but_the_test_distribution_lacks_it(
    secure_url, user, capsys
):
    user(ADMIN).license.post_start_trial(acknowledge=True)
    own = with_login(secure_url, ADMIN, PASSWORD)
    assert main(["es", "inference", "--reranker-url", "http://localhost:8080", "--url", own]) == 1
    assert "no handler found for uri [/_inference/rerank/crossrank]" in capsys.readouterr().err

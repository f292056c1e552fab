"""The inference endpoint: its requests and answers; the test distribution lacks the API itself."""

from __future__ import annotations

import json

import pytest

from es_plugin_config.inference_endpoint import endpoint, reranked_search
from rerank_server.cohere_form import cohere_answer, read_cohere_call
from rerank_server.commands.root import main


def filled_in(request, query, inputs):
    """What the service `custom` sends: each name replaced by its value as JSON."""
    text = request.replace("${query}", json.dumps(query)).replace("${input}", json.dumps(inputs))
    return text.encode()


def test_what_the_endpoint_sends_is_a_page_of_products_by_id():
    settings = endpoint("http://reranker:8080/")["service_settings"]
    assert settings["url"] == "http://reranker:8080/v1/rerank"
    body = filled_in(settings["request"], 'fresh "milk"', ["milk-1", "none", "dog-1"])
    call = read_cohere_call(body, "0" * 64)
    assert call.page.query == 'fresh "milk"'
    assert list(call.page.candidate_ids) == ["milk-1", "none", "dog-1"]
    assert list(call.page.texts) == ["", "", ""]  # an id is no text to be scored


def test_what_the_server_answers_is_where_the_endpoint_looks_for_it():
    settings = endpoint("http://reranker:8080")["service_settings"]
    call = read_cohere_call(filled_in(settings["request"], "q", ["a", "b"]), "0" * 64)
    answer = cohere_answer(call, [1, 0], [0.9, 0.2], answer_id="x", warning="")
    parser = settings["response"]["json_parser"]
    assert parser["relevance_score"] == "$.results[*].relevance_score"
    assert [each["relevance_score"] for each in answer["results"]] == [0.9, 0.2]
    assert parser["reranked_index"] == "$.results[*].index"
    assert [each["index"] for each in answer["results"]] == [1, 0]


def test_a_token_travels_as_a_secret_and_is_not_shown(tmp_path, capsys):
    settings = endpoint("http://r", "s3cret")["service_settings"]
    assert settings["headers"]["Authorization"] == "Bearer ${token}"
    assert settings["secret_parameters"] == {"token": "s3cret"}
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    flags = ["--reranker-url", "http://r", "--token-file", str(token), "--dry-run"]
    assert main(["es", "inference", *flags]) == 0
    assert "s3cret" not in capsys.readouterr().out


def test_the_search_sends_ids_and_never_fails_by_the_reranker():
    body = reranked_search({"match": {"text": "milk"}}, "milk", window=50)
    reranker = body["retriever"]["text_similarity_reranker"]
    assert (reranker["field"], reranker["rank_window_size"]) == ("id", 50)
    assert reranker["allow_rerank_failures"] is True


@pytest.mark.elasticsearch
def test_a_basic_licence_is_told_what_works_instead(
    elasticsearch_client, elasticsearch_url, capsys
):
    flags = ["--reranker-url", "http://localhost:8080", "--url", elasticsearch_url]
    assert main(["es", "inference", *flags]) == 1
    error = capsys.readouterr().err
    assert "licence: got basic, want trial or enterprise" in error
    assert "the gateway and the plugin work with every licence" in error

"""Elastic's own way to a reranker: an inference endpoint of the service `custom`.

It needs a trial or enterprise licence; the gateway and the plugin need none. The endpoint sends
product ids in place of texts, so a page is scored with all that the product store knows.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from elasticsearch import Elasticsearch

from es_plugin_config.cluster import ConfigurationClusterError, call
from es_plugin_config.resources import Json

NAME = "crossrank"
FILE = Path(__file__).parent / "inference" / "_inference" / "rerank" / f"{NAME}.json"
PATH = f"/_inference/rerank/{NAME}"
LICENCES = ("trial", "enterprise")


class InferenceLicenceError(ConfigurationClusterError):
    """A cluster whose licence has no inference API."""


def endpoint(reranker_url: str, token: str = "") -> Json:
    """The endpoint's definition for a reranker at `reranker_url`, its `/v1/rerank` not included."""
    body: Json = copy.deepcopy(json.loads(FILE.read_text(encoding="utf-8")))
    settings = body["service_settings"]
    settings["url"] = f"{reranker_url.rstrip('/')}/v1/rerank"
    if token:
        settings["headers"]["Authorization"] = "Bearer ${token}"
        settings["secret_parameters"] = {"token": token}
    return body


def put_endpoint(client: Elasticsearch, body: Json) -> None:
    """Put the endpoint.

    Raises:
        InferenceLicenceError: The licence does not allow it.
        ConfigurationClusterError: The cluster cannot be reached, refuses, or has no such API.
    """
    licence = (call(client, "GET", "/_license") or {}).get("license", {}).get("type", "")
    if licence not in LICENCES:
        raise InferenceLicenceError(
            f"licence: got {licence or 'none'}, want {' or '.join(LICENCES)} for {PATH}; "
            "the gateway and the plugin work with every licence"
        )
    call(client, "PUT", PATH, body)


def reranked_search(
    query: Json, text: str, *, id_field: str = "id", window: int = 100
) -> dict[str, Any]:
    """A search whose first `window` results the endpoint reorders.

    Args:
        query: The first pass, an Elasticsearch query.
        text: What the shopper typed.
        id_field: Keyword field with the product's id.
        window: Candidates.
    """
    reranker = {
        "retriever": {"standard": {"query": query}},
        "field": id_field,
        "inference_id": NAME,
        "inference_text": text,
        "rank_window_size": window,
        "allow_rerank_failures": True,
    }
    return {"retriever": {"text_similarity_reranker": reranker}}

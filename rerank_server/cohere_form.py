"""The rerank call in the form of Cohere's API (versions 1 and 2): query and documents as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rerank_server.contract.errors import PageError, RerankError, nearest
from rerank_server.page import MAX_CANDIDATES, SearchPage

MODEL = "crossrank"
# They change nothing here, but programs send them: long texts are always cut to the bundle's
# length, and every call has one priority.
_IGNORED = {"max_chunks_per_doc", "max_tokens_per_doc", "priority"}
_KEYS = {"query", "documents", "model", "top_n", "return_documents", "rank_fields"}
_SHORTEST_BUNDLE_ID = 8
_IDS = ["id"]


class UnknownModelError(RerankError):
    """A model that this server does not serve."""


@dataclass(frozen=True, slots=True)
class CohereCall:
    """A call that keeps its rules.

    Attributes:
        page: The documents as candidates, in their order.
        documents: As they came, strings as `{"text": ...}`.
        return_documents: Whether results repeat their document.
    """

    page: SearchPage
    documents: Sequence[dict[str, Any]]
    return_documents: bool


def read_cohere_call(body: bytes, bundle_id: str) -> CohereCall:
    """Read the body of `POST /v1/rerank`.

    A document is a text, or an object with `text`, with `id`, or with both. One whose id the
    product store holds is scored as that product; any other by its text. With `rank_fields` of
    `["id"]` a text is an id, for callers that can send nothing but texts.

    Args:
        body: JSON.
        bundle_id: Of the bundle that is served.

    Raises:
        PageError: When a rule is broken.
        UnknownModelError: When `model` is not "crossrank" or the bundle.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise PageError(f"body: got {type(error).__name__}, want JSON") from error
    if not isinstance(value, dict):
        raise PageError(f"body: got a JSON {type(value).__name__}, want an object")
    for key in value:
        if key not in _KEYS | _IGNORED:
            raise PageError(
                f"{key[:64]!r}: got an unknown key, want some of {', '.join(sorted(_KEYS))}"
                f"{nearest(key[:64], _KEYS)}"
            )
    _check_model(value.get("model"), bundle_id)
    query = value.get("query")
    if not isinstance(query, str) or not query:
        raise PageError(f"query: got {_kind(query)}, want a text")
    given = value.get("documents")
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_CANDIDATES:
        got = len(given) if isinstance(given, list) else _kind(given)
        raise PageError(f"documents: got {got}, want 1 to {MAX_CANDIDATES}")
    fields = _rank_fields(value.get("rank_fields"))
    documents = [_document(item, index, fields) for index, item in enumerate(given)]
    page = SearchPage(
        [_identity(document, index) for index, document in enumerate(documents)],
        query=query,
        top_k=_top_n(value.get("top_n"), len(documents)),
        texts=[_text(document, index, fields) for index, document in enumerate(documents)],
    )
    return CohereCall(page, documents, _flag(value.get("return_documents"), "return_documents"))


def cohere_answer(
    call: CohereCall,
    ranks: Sequence[int],
    scores: Sequence[float],
    *,
    answer_id: str,
    warning: str,
) -> dict[str, Any]:
    """Return the answer's JSON values.

    Args:
        call: What was asked.
        ranks: Position of each returned document in the call, best first.
        scores: Its score; none at all when the page is degraded: then all are 0.
        answer_id: Unique.
        warning: Why the page is degraded; empty when it is not.
    """
    results = []
    for place, index in enumerate(ranks):
        result: dict[str, Any] = {
            "index": index,
            "relevance_score": scores[place] if scores else 0.0,
        }
        if call.return_documents:
            result["document"] = call.documents[index]
        results.append(result)
    meta: dict[str, Any] = {
        "api_version": {"version": "1"},
        "billed_units": {"search_units": 0},
    }
    if warning:
        meta["warnings"] = [f"degraded, the documents are in their own order: {warning}"]
    return {"id": answer_id, "results": results, "meta": meta}


def _check_model(model: object, bundle_id: str) -> None:
    if model is None or model == "" or model == MODEL:  # noqa: PLR1714 - a list has no hash
        return
    if isinstance(model, str) and len(model) >= _SHORTEST_BUNDLE_ID and bundle_id.startswith(model):
        return
    raise UnknownModelError(
        f"model: got {str(model)[:64]!r}, want {MODEL!r} or {bundle_id[:12]!r}, the bundle"
    )


def _document(item: object, index: int, fields: Sequence[str]) -> dict[str, Any]:
    if isinstance(item, str):
        return {"id" if list(fields) == _IDS else "text": item}
    if isinstance(item, dict):
        return item
    raise PageError(f"documents[{index}]: got {_kind(item)}, want a text or an object")


def _identity(document: dict[str, Any], index: int) -> str:
    """Return the id, or one that no product has and no other document."""
    identity = document.get("id")
    if identity is None:
        return f"\0document {index}"
    if not isinstance(identity, str) or not identity:
        raise PageError(f"documents[{index}].id: got {_kind(identity)}, want a text")
    return identity


def _text(document: dict[str, Any], index: int, fields: Sequence[str]) -> str:
    if list(fields) == _IDS:
        return ""
    values = [document[field] for field in fields if field in document]
    if not values and "id" not in document:
        raise PageError(
            f"documents[{index}]: got no {' or '.join(fields)} and no id, want one of them"
        )
    for value in values:
        if not isinstance(value, str):
            raise PageError(f"documents[{index}]: got {_kind(value)} as its text, want a text")
    return " ".join(values)


def _rank_fields(value: object) -> list[str]:
    if value is None:
        return ["text"]
    if not isinstance(value, list) or not value or not all(isinstance(i, str) for i in value):
        raise PageError("rank_fields: got no names, want a list of names of the documents' fields")
    return value


def _top_n(value: object, count: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise PageError(f"top_n: got {str(value)[:32]}, want a whole number from 1")
    return min(value, count)


def _flag(value: object, what: str) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        raise PageError(f"{what}: got {_kind(value)}, want true or false")
    return value


def _kind(value: object) -> str:
    names = {type(None): "none", str: "an empty text", dict: "an object", list: "a list"}
    return names.get(type(value), f"a {type(value).__name__}")

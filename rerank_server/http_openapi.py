"""The OpenAPI 3.1 page of the HTTP door; the native call's part comes from the proto itself."""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from rerank_server.page import MAX_CANDIDATES
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.version import server_version

_KINDS: dict[int, dict[str, Any]] = {
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": ["number", "string"], "description": '"NaN": none'},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": ["number", "string"], "description": '"NaN": none'},
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer"},
    # JSON's numbers lose digits above 2^53, so protobuf writes these as texts and reads both
    FieldDescriptor.CPPTYPE_INT64: {"type": ["string", "integer"]},
    FieldDescriptor.CPPTYPE_UINT64: {"type": ["string", "integer"]},
}
_ERRORS = {
    "400": "A rule is broken; the message says which",
    "401": "No valid token",
    "413": "The body is larger than the server's limit",
    "429": "Beyond the rate of the token; see Retry-After",
    "500": "A defect of the server; its log has the details",
}


@cache
def openapi_page() -> dict[str, Any]:
    """Return the page as JSON values; shared, so not to be changed."""
    schemas: dict[str, Any] = {}
    native = (pb.RerankRequest.DESCRIPTOR, pb.RerankResponse.DESCRIPTOR)
    for message in native:
        _add_message(message, schemas)
    schemas |= _cohere_schemas()
    cohere = _operation("Rerank texts, in the form of Cohere's API", "Cohere")
    return {
        "openapi": "3.1.0",
        "info": {"title": "CrossRank", "version": server_version(), "license": _LICENSE},
        "paths": {
            "/v1/pages:rerank": _operation("Rerank one page, as rerank.proto has it", "Rerank"),
            "/v1/rerank": cohere,
            "/v2/rerank": cohere,
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


_LICENSE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}


def _operation(summary: str, name: str) -> dict[str, Any]:
    answers: dict[str, Any] = {
        "200": {"description": "The reranked page", "content": _json(f"{name}Response")}
    }
    for status, text in _ERRORS.items():
        answers[status] = {"description": text, "content": _json("Error")}
    return {
        "post": {
            "summary": summary,
            "parameters": [
                {
                    "name": "x-timeout-ms",
                    "in": "header",
                    "description": "Answer within this time, in retrieval order if need be",
                    "schema": {"type": "integer", "minimum": 1, "maximum": 600_000},
                }
            ],
            "requestBody": {"required": True, "content": _json(f"{name}Request")},
            "responses": answers,
        }
    }


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _add_message(message: Descriptor, schemas: dict[str, Any]) -> None:
    if message.name in schemas:
        return
    schemas[message.name] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {field.name: _field(field, schemas) for field in message.fields},
    }


def _field(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        value = _value(entry.fields_by_name["value"], schemas)
        return {"type": "object", "additionalProperties": value}
    value = _value(field, schemas)
    return {"type": "array", "items": value} if field.is_repeated else value


def _value(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    if field.message_type is not None:
        _add_message(field.message_type, schemas)
        return {"$ref": f"#/components/schemas/{field.message_type.name}"}
    if field.enum_type is not None:
        return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
    return _KINDS[field.cpp_type]


def _cohere_schemas() -> dict[str, Any]:
    text = {"type": "string"}
    document = {
        "type": "object",
        "properties": {"id": text, "text": text},
        "description": "Scored as the product with this id, or by its text",
    }
    result = {
        "type": "object",
        "properties": {
            "index": {"type": "integer"},
            "relevance_score": {"type": "number"},
            "document": document,
        },
    }
    return {
        "CohereRequest": {
            "type": "object",
            "required": ["query", "documents"],
            "properties": {
                "model": {"type": "string", "description": '"crossrank" or the bundle'},
                "query": text,
                "documents": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": MAX_CANDIDATES,
                    "items": {"oneOf": [text, document]},
                },
                "top_n": {"type": "integer", "minimum": 1},
                "return_documents": {"type": "boolean", "default": False},
                "rank_fields": {"type": "array", "items": text},
            },
        },
        "CohereResponse": {
            "type": "object",
            "properties": {
                "id": text,
                "results": {"type": "array", "items": result},
                "meta": {"type": "object"},
            },
        },
        "Error": {
            "type": "object",
            "required": ["message"],
            "properties": {"code": text, "message": text},
        },
    }

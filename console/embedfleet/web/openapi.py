"""What the API is, as OpenAPI 3.1. The tests hold each answer against it."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

from embedfleet_schema.store.api_keys import SCOPES

Schema = dict[str, Any]

STATUSES = {
    400: "A field is wrong.",
    401: "No valid API key.",
    403: "The key lacks the scope.",
    404: "Not there, or not for this key.",
    408: "The body came too slowly.",
    409: "Not now: another request is under way, or the collection does not take it.",
    413: "The body is too large.",
    421: "The host name is not served here.",
    422: "The Idempotency-Key was used for another request.",
    429: "The key asks too often. See Retry-After.",
    503: "No worker, no database, or too many requests. See Retry-After.",
}
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}


def _object(required: dict[str, Schema], more: dict[str, Schema] | None = None) -> Schema:
    properties = required | (more or {})
    return {"type": "object", "required": list(required), "properties": properties}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


ERROR = _object(
    {
        "error": _object(
            {"message": TEXT, "type": TEXT, "param": _null(TEXT), "code": TEXT},
        )
    }
)
EMBEDDINGS_ASKED = _object(
    {
        "model": {"type": "string", "minLength": 1, "description": "A collection, or its model."},
        "input": {
            "anyOf": [
                {"type": "string", "minLength": 1},
                _list({"type": "string", "minLength": 1}) | {"minItems": 1, "maxItems": 2_048},
            ]
        },
    },
    {
        "encoding_format": _null({"enum": ["float", "base64"]}),
        "dimensions": _null({"type": "integer", "minimum": 1}),
        "user": _null(TEXT),
        "input_type": _null(
            {"enum": ["query", "document"], "description": "As what texts are read: query."}
        ),
        "truncate": _null({"type": "boolean", "description": "Cut texts that are too long."}),
    },
)
EMBEDDINGS = _object(
    {
        "object": {"const": "list"},
        "data": _list(
            _object(
                {
                    "object": {"const": "embedding"},
                    "index": COUNT,
                    "embedding": {"anyOf": [_list(NUMBER), TEXT]},
                }
            )
        ),
        "model": TEXT,
        "usage": _object({"prompt_tokens": COUNT, "total_tokens": COUNT}),
    }
)
MODELS = _object(
    {
        "object": {"const": "list"},
        "data": _list(
            _object(
                {
                    "id": TEXT,
                    "object": {"const": "model"},
                    "created": COUNT,
                    "owned_by": TEXT,
                    "dimensions": COUNT,
                    "max_tokens": COUNT,
                }
            )
        ),
    }
)
SEARCH_ASKED = _object(
    {},
    {
        "query": _null({"type": "string", "minLength": 1}),
        "vector": _null(_list(NUMBER) | {"minItems": 1, "maxItems": 16_000}),
        "k": {"type": "integer", "minimum": 1, "maximum": 1_000, "default": 10},
        "filter": _null({"type": "object"}),
        "min_score": _null(NUMBER),
        "hybrid": {"type": "boolean", "default": False},
    },
) | {"additionalProperties": False}
SEARCH = _object(
    {
        "hits": _list(
            _object(
                {
                    "id": COUNT,
                    "document": TEXT,
                    "position": COUNT,
                    "content": TEXT,
                    "metadata": {"type": "object"},
                    "score": NUMBER,
                }
            )
        )
    }
)
REJECTION = _object({"key": _null(TEXT), "code": TEXT, "reason": TEXT})
DOCUMENTS = _object(
    {
        "job": COUNT,
        "documents": COUNT,
        "unchanged": COUNT,
        "rejected": COUNT,
        "chunks": COUNT,
        "reused": COUNT,
        "awaited": COUNT,
        "batches": COUNT,
        "rejections": _list(REJECTION),
    }
)
JOB = _object(
    {
        "id": COUNT,
        "kind": TEXT,
        "collection": TEXT,
        "state": TEXT,
        "documents": COUNT,
        "rejected": COUNT,
        "chunks": COUNT,
        "queued": COUNT,
        "embedded": COUNT,
        "failed": COUNT,
        "total": COUNT,
        "finished": {"type": "boolean"},
        "eta_seconds": _null(NUMBER),
    }
)


def _answers(success: int, schema: Schema, *errors: int, kind: str = "application/json") -> Schema:
    found = {str(success): {"description": "Done.", "content": {kind: {"schema": schema}}}}
    refused = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status in sorted({421, *errors}):
        found[str(status)] = {"description": STATUSES[status], "content": refused}
    return found


def _parameter(name: str, place: str, schema: Schema) -> Schema:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _json(schema: Schema) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


NAME = _parameter("name", "path", {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,62}$"})
ALWAYS = (401, 403, 429, 503)


def _paths() -> Schema:
    return {
        "/healthz": {
            "get": {
                "summary": "Whether the process answers. It asks nobody.",
                "security": [],
                "responses": _answers(200, _object({"status": {"const": "ok"}})),
            }
        },
        "/openapi.json": {
            "get": {
                "summary": "This description.",
                "security": [],
                "responses": _answers(200, {"type": "object"}),
            }
        },
        "/v1/embeddings": {
            "post": {
                "summary": "The vectors of texts, in OpenAI's dialect. Scope: embeddings.",
                "requestBody": _json(EMBEDDINGS_ASKED),
                "responses": _answers(200, EMBEDDINGS, 400, 404, 408, 413, *ALWAYS),
            }
        },
        "/v1/models": {
            "get": {
                "summary": "What can be named as the model. Scope: embeddings.",
                "responses": _answers(200, MODELS, *ALWAYS),
            }
        },
        "/collections/{name}/documents": {
            "post": {
                "summary": "Store documents, one JSON object a line. Scope: documents.",
                "parameters": [
                    NAME,
                    _parameter("source", "query", {"type": "string", "minLength": 1}),
                    _parameter("tenant", "query", {"type": "string", "minLength": 1}),
                    _parameter("lane", "query", {"enum": ["interactive", "bulk"]}),
                    _parameter("replace", "query", {"enum": ["true", "false"]}),
                    _parameter(
                        "Idempotency-Key",
                        "header",
                        {"type": "string", "minLength": 1, "maxLength": 255},
                    ),
                ],
                "requestBody": {
                    "required": True,
                    "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
                },
                "responses": _answers(202, DOCUMENTS, 400, 404, 408, 409, 413, 422, *ALWAYS),
            }
        },
        "/collections/{name}/search": {
            "post": {
                "summary": "The nearest chunks to a text or a vector. Scope: search.",
                "parameters": [NAME],
                "requestBody": _json(SEARCH_ASKED),
                "responses": _answers(200, SEARCH, 400, 404, 408, 409, 413, *ALWAYS),
            }
        },
        "/jobs/{id}": {
            "get": {
                "summary": "A job; with Accept: text/event-stream its progress. Scope: documents.",
                "parameters": [_parameter("id", "path", {"type": "integer", "minimum": 1})],
                "responses": _answers(200, JOB, 404, *ALWAYS),
            }
        },
    }


@cache
def description() -> Schema:
    """The whole, as JSON."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "embedfleet", "version": version("embedfleet")},
        "security": [{"key": []}],
        "paths": _paths(),
        "components": {
            "schemas": {"Error": ERROR},
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": f"embedfleet key create. Scopes: {', '.join(SCOPES)}.",
                }
            },
        },
    }

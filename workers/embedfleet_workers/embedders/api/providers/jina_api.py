"""Jina AI's embeddings endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from embedfleet_schema.types import Kind
from embedfleet_workers.embedders.api.providers.adapter import Caps
from embedfleet_workers.embedders.api.providers.http_api import HttpApi

_TASKS = {"document": "retrieval.passage", "query": "retrieval.query"}


class JinaApi(HttpApi):
    """The quota counts requests, tokens and calls at once.

    How many texts a request may hold is not stated; 512 is our choice, and a refusal halves it.
    Source: https://api.jina.ai/openapi.json
    """

    caps = Caps(inputs=512)
    path = "/v1/embeddings"

    def _body(self, texts: Sequence[str], kind: Kind) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._space.model,
            "input": list(texts),
            "embedding_type": "base64",
            "truncate": True,
        }
        # Models of the second generation know no tasks.
        if not self._space.model.startswith("jina-embeddings-v2"):
            body["task"] = _TASKS[kind]
        if self._width is not None:
            body["dimensions"] = self._width
        return body

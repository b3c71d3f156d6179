"""The Gemini API's batchEmbedContents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from embedfleet_schema.types import Kind
from embedfleet_workers.embedders.api.providers.adapter import Caps
from embedfleet_workers.embedders.api.providers.http_api import HttpApi, in_order

_TASKS = {"document": "RETRIEVAL_DOCUMENT", "query": "RETRIEVAL_QUERY"}


class GeminiApi(HttpApi):
    """100 texts per request; each of them counts as one request of the quota.

    Sources: https://ai.google.dev/api/embeddings#method:-models.batchembedcontents,
    https://ai.google.dev/gemini-api/docs/embeddings (task types and their absence in
    gemini-embedding-2, which is told by a prefix instead: the prompts of its space).
    """

    caps = Caps(inputs=100, each_counts=True)
    path = "/v1beta/models/{model}:batchEmbedContents"

    def _authorization(self) -> dict[str, str]:
        return {"x-goog-api-key": self._key}

    def _body(self, texts: Sequence[str], kind: Kind) -> dict[str, Any]:
        model = self._space.model
        options: dict[str, Any] = {"model": f"models/{model}"}
        if not model.startswith("gemini-embedding-2"):
            options["taskType"] = _TASKS[kind]
        if self._width is not None:
            options["outputDimensionality"] = self._width
        return {"requests": [{**options, "content": {"parts": [{"text": text}]}} for text in texts]}

    def _read(self, body: Any) -> tuple[list[tuple[object, object]], object]:  # noqa: ANN401
        vectors = in_order(item["values"] for item in body["embeddings"])
        return vectors, (body.get("usageMetadata") or {}).get("promptTokenCount")

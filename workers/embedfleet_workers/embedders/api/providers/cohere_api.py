"""Cohere's embed endpoint, version 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from embedfleet_schema.types import Kind
from embedfleet_workers.embedders.api.providers.adapter import Caps
from embedfleet_workers.embedders.api.providers.http_api import HttpApi, in_order
from embedfleet_workers.rate_limits.quota import Amounts

_INPUT_TYPES = {"document": "search_document", "query": "search_query"}


class CohereApi(HttpApi):
    """96 texts per request; the quota counts inputs, 2,000 a minute.

    Sources: https://docs.cohere.com/reference/embed, https://docs.cohere.com/docs/rate-limits
    """

    caps = Caps(inputs=96)
    path = "/v2/embed"

    def costs(self, tokens: Sequence[int]) -> Amounts:
        return {"requests": 1, "inputs": len(tokens), "tokens": sum(tokens)}

    def _body(self, texts: Sequence[str], kind: Kind) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._space.model,
            "texts": list(texts),
            "input_type": _INPUT_TYPES[kind],
            "embedding_types": ["float"],
            # Counts are estimates here: the last words of a text are worth less than the text.
            "truncate": "END",
        }
        if self._width is not None:
            body["output_dimension"] = self._width
        return body

    def _read(self, body: Any) -> tuple[list[tuple[object, object]], object]:  # noqa: ANN401
        billed = (body.get("meta") or {}).get("billed_units") or {}
        return in_order(body["embeddings"]["float"]), billed.get("input_tokens")

"""Mistral's embeddings endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from embedfleet_schema.types import Kind
from embedfleet_workers.embedders.api.providers.adapter import Caps
from embedfleet_workers.embedders.api.providers.http_api import HttpApi


class MistralApi(HttpApi):
    """256 texts and 16,384 tokens per request: the refusals of the live API say so, no page does.

    Headers state the limits: tokens of a minute, requests of ten seconds. Sources:
    https://docs.mistral.ai/api/endpoint/embeddings, https://github.com/langchain-ai/langchain/issues/20523
    """

    caps = Caps(inputs=256, tokens=16_000)
    path = "/v1/embeddings"

    def _body(self, texts: Sequence[str], kind: Kind) -> dict[str, Any]:  # noqa: ARG002 - no kinds
        body: dict[str, Any] = {
            "model": self._space.model,
            "input": list(texts),
            "encoding_format": "base64",
        }
        if self._width is not None:
            body["output_dimension"] = self._width
        return body

"""Voyage AI's embeddings endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from embedfleet_schema.types import Kind, Space
from embedfleet_workers.embedders.api.providers.adapter import Caps
from embedfleet_workers.embedders.api.providers.http_api import HttpApi

if TYPE_CHECKING:
    import httpx2

_MOST_TOKENS = {
    "voyage-4-lite": 1_000_000,
    "voyage-3.5-lite": 1_000_000,
    "voyage-4": 320_000,
    "voyage-3.5": 320_000,
    "voyage-2": 320_000,
}
_MOST_TOKENS_OF_OTHERS = 120_000


class VoyageApi(HttpApi):
    """1,000 texts per request, and 120,000 to 1,000,000 tokens by model.

    The quota counts requests and tokens. Sources: https://docs.voyageai.com/reference/embeddings-api,
    https://docs.voyageai.com/docs/rate-limits
    """

    path = "/v1/embeddings"

    def __init__(self, space: Space, client: httpx2.AsyncClient, base_url: str, key: str) -> None:
        super().__init__(space, client, base_url, key)
        self.caps = self.caps_of(space.model)

    @classmethod
    def caps_of(cls, model: str) -> Caps:
        return Caps(1_000, _MOST_TOKENS.get(model, _MOST_TOKENS_OF_OTHERS))

    def _body(self, texts: Sequence[str], kind: Kind) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._space.model,
            "input": list(texts),
            "input_type": kind,
            "encoding_format": "base64",
            "truncation": True,
        }
        if self._width is not None:
            body["output_dimension"] = self._width
        return body

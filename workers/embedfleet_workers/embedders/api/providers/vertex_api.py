"""Embedding models of Google's Vertex AI, through the official client."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from embedfleet_schema.catalogue.api_models import find
from embedfleet_schema.errors import AccountMissing, ExtraMissing
from embedfleet_schema.settings import Settings
from embedfleet_schema.types import Kind, Space
from embedfleet_workers.embedders.api.providers.adapter import (
    Answer,
    Caps,
    Faulty,
    Rejected,
    Reply,
)
from embedfleet_workers.embedders.api.providers.error_replies import error_reply
from embedfleet_workers.embedders.api.token_counts import counter
from embedfleet_workers.rate_limits.quota import Amounts, Reading
from embedfleet_workers.stop import Stop

if TYPE_CHECKING:
    import httpx2

_TASKS = {"document": "RETRIEVAL_DOCUMENT", "query": "RETRIEVAL_QUERY"}


def open_client(settings: Settings, client: httpx2.AsyncClient) -> Any:  # noqa: ANN401
    """The official client over the process's HTTP client, with the machine's own credentials.

    Without retries of its own: they would pass the fleet's limit by.

    Raises:
        ExtraMissing: google-genai is not installed.
        AccountMissing: nothing names a project.
    """
    try:
        from google import genai
        from google.genai.types import HttpOptions
    except ImportError as error:
        raise ExtraMissing(feature="Calling Vertex AI", extra="vertex") from error
    if not settings.vertex_project:
        raise AccountMissing(
            provider="vertex", what="a project", variable="EMBEDFLEET_VERTEX_PROJECT"
        )
    return genai.Client(
        vertexai=True,
        project=settings.vertex_project,
        location=settings.vertex_location,
        http_options=HttpOptions(base_url=settings.vertex_base_url, httpx_async_client=client),
    )


class VertexApi:
    """250 texts and 20,000 tokens per request; of Gemini models, one text.

    The quota counts requests of a minute and tokens, for each model, project and region. Sources:
    https://cloud.google.com/vertex-ai/generative-ai/docs/embeddings/get-text-embeddings,
    https://cloud.google.com/vertex-ai/generative-ai/docs/quotas
    """

    def __init__(self, space: Space, client: Any) -> None:  # noqa: ANN401 - of google-genai
        self._space = space
        self._client = client
        self.caps = self.caps_of(space.model)
        known = find("vertex", space.model)
        self.count_tokens = counter(known.tokenizer if known else None)
        default = known.dimensions if known else space.dimensions
        self._width = space.dimensions if space.dimensions != default else None

    @classmethod
    def caps_of(cls, model: str) -> Caps:
        return Caps(inputs=1) if model.startswith("gemini") else Caps(inputs=250, tokens=20_000)

    def costs(self, tokens: Sequence[int]) -> Amounts:
        return {"requests": 1, "tokens": sum(tokens)}

    async def send(self, texts: Sequence[str], kind: Kind) -> Reply:
        # The client would leave it out in silence, and answer with one vector fewer.
        if "" in texts:
            return Rejected("it takes no empty text")
        return await self._sent(texts, kind)

    async def _sent(self, texts: Sequence[str], kind: Kind) -> Reply:
        import httpx2
        from google.auth.exceptions import GoogleAuthError
        from google.genai.errors import APIError

        try:
            got = await self._client.aio.models.embed_content(
                model=self._space.model, contents=list(texts), config=self._config(kind)
            )
        except APIError as error:
            return _refused(error)
        except GoogleAuthError as error:
            return _unauthorized(error)
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            return Faulty(f"the connection failed ({type(error).__name__})")
        except ValueError as error:
            return Faulty(f"its answer cannot be read ({type(error).__name__})", bad_answer=True)
        return _answer(got)

    def _config(self, kind: Kind) -> dict[str, Any]:
        # Counts are estimates here: the last words of a text are worth less than the text.
        config: dict[str, Any] = {"auto_truncate": True}
        if not self._space.model.startswith("gemini-embedding-2"):
            config["task_type"] = _TASKS[kind]
        if self._width is not None:
            config["output_dimensionality"] = self._width
        return config


def _answer(got: Any) -> Reply:  # noqa: ANN401
    embeddings = got.embeddings or []
    counts = [each.statistics.token_count for each in embeddings if each.statistics is not None]
    tokens = round(sum(counts)) if len(counts) == len(embeddings) and all(counts) else None
    return Answer([(n, each.values) for n, each in enumerate(embeddings)], tokens, Reading())


def _unauthorized(error: Exception) -> Reply:
    if getattr(error, "retryable", False):
        return Faulty(f"its token could not be renewed ({type(error).__name__})")
    return Stop("no_credentials", f"there are no usable credentials ({type(error).__name__})")


def _refused(error: Any) -> Reply:  # noqa: ANN401 - google.genai.errors.APIError
    """By the table of all who answer in JSON; the client keeps the body that it parsed."""
    headers = getattr(error.response, "headers", None) or {}
    body = json.dumps(error.details, default=str).encode()
    return error_reply(int(error.code), headers, body)

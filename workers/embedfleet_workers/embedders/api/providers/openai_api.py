"""OpenAI, Azure OpenAI, and servers that speak OpenAI's protocol, through the official client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embedfleet_schema.catalogue.api_models import find
from embedfleet_schema.errors import ExtraMissing
from embedfleet_schema.types import Kind, Space
from embedfleet_workers.embedders.api.providers.adapter import Caps, Faulty, RateLimited, Reply
from embedfleet_workers.embedders.api.providers.error_replies import error_reply
from embedfleet_workers.embedders.api.providers.headers import reading_of
from embedfleet_workers.embedders.api.providers.http_api import answer, openai_form
from embedfleet_workers.embedders.api.token_counts import counter
from embedfleet_workers.rate_limits.quota import Amounts, Reading

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

OPENAI = "https://api.openai.com/v1"
# The client wants a key; servers of one's own often want none.
NO_KEY = "none"


def options_of(space: Space) -> dict[str, Any]:
    """What a request says beside model and texts: the dimensions, where they are not the usual."""
    known = find(space.provider, space.model)
    default = known.dimensions if known else space.dimensions
    return {} if space.dimensions == default else {"dimensions": space.dimensions}


class OpenAIApi:
    """2,048 inputs and 300,000 tokens per request, 8,192 tokens per input, no empty input.

    Source: https://platform.openai.com/docs/api-reference/embeddings/create
    """

    caps = Caps(inputs=2_048, tokens=300_000)

    def __init__(
        self,
        space: Space,
        client: httpx2.AsyncClient,
        *,
        base_url: str | None = None,
        key: str = "",
        api_version: str | None = None,
    ) -> None:
        self._model = space.model
        self._key = key
        self._client = _official_client(client, base_url or OPENAI, key or NO_KEY, api_version)
        self._azure = api_version is not None
        known = find(space.provider, space.model)
        self.count_tokens = counter(known.tokenizer if known else None)
        self._options = options_of(space)

    def costs(self, tokens: Sequence[int]) -> Amounts:
        return {"requests": 1, "tokens": sum(tokens)}

    async def send(self, texts: Sequence[str], kind: Kind) -> Reply:  # noqa: ARG002 - it has no kinds
        import httpx2
        import openai

        body = {
            "model": self._model,
            "input": list(texts),
            "encoding_format": "base64",
            **self._options,
        }
        try:
            # Not `embeddings.create`: it looks at each text twice, and decodes what it gets.
            got = await self._client.post("/embeddings", body=body, cast_to=httpx2.Response)
        except openai.APIStatusError as error:
            refused = error.response
            reply = error_reply(
                refused.status_code, refused.headers, refused.content, key=self._key
            )
            if isinstance(reply, RateLimited):
                return replace(reply, reading=self._believed(reply.reading))
            return reply
        except openai.OpenAIError as error:
            cause = error.__cause__ or error
            return Faulty(f"the connection failed ({type(cause).__name__})")
        return answer(got.content, openai_form, self._believed(reading_of(got.headers)))

    def _believed(self, reading: Reading) -> Reading:
        """Azure enforces its request limit in slices of 1 or 10 s, and may state that one.

        Source: https://learn.microsoft.com/azure/ai-services/openai/quotas-limits
        """
        return reading.without("requests") if self._azure else reading


def _official_client(
    client: httpx2.AsyncClient, base_url: str, key: str, api_version: str | None
) -> AsyncOpenAI:
    """Without retries of its own: they would pass the fleet's limit by, and repeat quota errors."""
    try:
        from openai import AsyncAzureOpenAI, AsyncOpenAI
    except ImportError as error:
        raise ExtraMissing(feature="Calling OpenAI", extra="api") from error
    # A request's deadline is the sender's: a limit for each read would cost a timer for each.
    options: dict[str, Any] = {"max_retries": 0, "timeout": None, "http_client": client}
    if api_version is None:
        return AsyncOpenAI(api_key=key, base_url=base_url, **options)
    return AsyncAzureOpenAI(
        api_key=key, azure_endpoint=base_url, api_version=api_version, **options
    )

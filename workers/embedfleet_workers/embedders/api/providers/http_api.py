"""The adapters that need no client library: JSON over the process's one HTTP client."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from embedfleet_schema.catalogue.api_models import find
from embedfleet_schema.types import Kind, Space
from embedfleet_workers.embedders.api.providers.adapter import Answer, Caps, Faulty, Reply
from embedfleet_workers.embedders.api.providers.error_replies import error_reply
from embedfleet_workers.embedders.api.providers.headers import reading_of
from embedfleet_workers.embedders.api.token_counts import counter
from embedfleet_workers.rate_limits.quota import Amounts, Reading

if TYPE_CHECKING:
    import httpx2


# No answer counts so many; a server's nonsense is not entered in a ledger.
MOST_TOKENS = 10**9


class HttpApi(ABC):
    """A provider that is sent JSON and answers JSON; subclasses say which."""

    caps: Caps
    path: str

    def __init__(self, space: Space, client: httpx2.AsyncClient, base_url: str, key: str) -> None:
        self._space = space
        self._client = client
        self._key = key
        self._url = base_url.rstrip("/") + self.path.format(model=space.model)
        known = find(space.provider, space.model)
        self.count_tokens = counter(known.tokenizer if known else None)
        # Sent only where it is not what the model gives anyway: older models refuse the parameter.
        default = known.dimensions if known else space.dimensions
        self._width = space.dimensions if space.dimensions != default else None

    @classmethod
    def caps_of(cls, model: str) -> Caps:  # noqa: ARG003 - most providers have the same for all
        return cls.caps

    def costs(self, tokens: Sequence[int]) -> Amounts:
        return {"requests": len(tokens) if self.caps.each_counts else 1, "tokens": sum(tokens)}

    async def send(self, texts: Sequence[str], kind: Kind) -> Reply:
        got = await posted(
            self._client, self._url, self._body(texts, kind), self._authorization(), key=self._key
        )
        if isinstance(got, Reply):
            return got
        return answer(got.content, self._read, reading_of(got.headers))

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"}

    @abstractmethod
    def _body(self, texts: Sequence[str], kind: Kind) -> dict[str, Any]: ...

    def _read(self, body: Any) -> tuple[list[tuple[object, object]], object]:  # noqa: ANN401
        """The items of a decoded answer and the tokens that it counted; OpenAI's form."""
        return openai_form(body)


async def posted(
    client: httpx2.AsyncClient,
    url: str,
    body: dict[str, Any],
    authorization: dict[str, str],
    *,
    key: str,
) -> httpx2.Response | Reply:
    """A 2xx answer to JSON, or what came instead. `key` is hidden where a server quotes it."""
    import httpx2

    content = json.dumps(body, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", **authorization}
    try:
        got = await client.post(url, content=content, headers=headers)
    except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
        return Faulty(f"the connection failed ({type(error).__name__})")
    if not got.is_success:
        return error_reply(got.status_code, got.headers, got.content, key=key)
    return got


def openai_form(body: Any) -> tuple[list[tuple[object, object]], object]:  # noqa: ANN401
    """`{"data": [{"index": 0, "embedding": ...}], "usage": {"total_tokens": 1}}`.

    Raises:
        TypeError, KeyError, AttributeError: it has another form.
    """
    items = [(item["index"], item["embedding"]) for item in body["data"]]
    return items, (body.get("usage") or {}).get("total_tokens")


def answer(content: bytes, read: Any, reading: Reading) -> Reply:  # noqa: ANN401
    """The body of a 2xx answer, decoded; what cannot be understood is a fault of the server."""
    try:
        items, tokens = read(json.loads(content))
    except (ValueError, RecursionError):
        return Faulty("its answer is no JSON", bad_answer=True)
    except (TypeError, KeyError, AttributeError, IndexError):
        return Faulty("its answer holds no embeddings", bad_answer=True)
    counted = isinstance(tokens, int | float) and not isinstance(tokens, bool)
    return Answer(items, int(tokens) if counted and 0 < tokens < MOST_TOKENS else None, reading)


def in_order(vectors: Any) -> list[tuple[object, object]]:  # noqa: ANN401
    """Items of an answer that has no indexes, because its order is that of the texts."""
    return list(enumerate(vectors))

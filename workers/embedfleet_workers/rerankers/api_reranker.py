"""The rerank endpoints of Cohere and Voyage, within the rate limits that the fleet shares."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedfleet_workers.backoff import full_jitter
from embedfleet_workers.embedders.api.event_loop import EventLoop
from embedfleet_workers.embedders.api.providers.adapter import Faulty, RateLimited, Reply
from embedfleet_workers.embedders.api.providers.headers import reading_of
from embedfleet_workers.embedders.api.providers.http_api import posted
from embedfleet_workers.embedders.api.token_counts import estimate
from embedfleet_workers.embedding_errors import InputAtFault, RerankFailed
from embedfleet_workers.rate_limits.quota import Amounts, Reading
from embedfleet_workers.rate_limits.registry import LimiterRegistry

if TYPE_CHECKING:
    import httpx2

TRIES = 4
# A person waits: what would take longer is an error.
LONGEST_WAIT_S = 10.0
BACKOFF_BASE_S = 0.5
# Sources: https://docs.cohere.com/reference/rerank, https://docs.voyageai.com/reference/reranker-api
PATHS = {"cohere": "/v2/rerank", "voyage": "/v1/rerank"}


@dataclass(frozen=True, slots=True)
class Scored:
    """The answer: scores in the order of the texts, and what it cost."""

    scores: list[float]
    tokens: int | None
    reading: Reading


@dataclass(frozen=True, slots=True)
class RerankEndpoint:
    """One account's way to one reranker."""

    provider: str
    model: str
    client: httpx2.AsyncClient
    base_url: str
    key: str
    account: str
    timeout_s: float

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


class ApiReranker:
    """One request for each query: both providers take up to 1,000 texts."""

    def __init__(
        self, endpoint: RerankEndpoint, loop: EventLoop, registry: LimiterRegistry
    ) -> None:
        self._endpoint = endpoint
        self._loop = loop
        self._registry = registry

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        return self._loop.run(self._scores(query, texts)).result() if texts else []

    def close(self) -> None:
        """Its loop and its connections belong to the factory."""

    async def _scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """Raises RerankFailed once waiting and trying again are of no use."""
        at = self._endpoint
        limiter = self._registry.limiter(at.provider, at.model, at.account)
        try:
            tokens = sum(estimate([query])) * len(texts) + sum(estimate(texts))
        except InputAtFault as error:
            raise RerankFailed(model=at.name, reason="a text is no Unicode text") from error
        costs: Amounts = {"requests": 1, "tokens": tokens}
        reason = ""
        for tried in range(1, TRIES + 1):
            admission = await limiter.admit(costs, max_wait_s=LONGEST_WAIT_S, lane="interactive")
            try:
                reply = await self._sent(query, texts)
            except BaseException:
                await admission.settle(timed=False)
                raise
            match reply:
                case Scored(scores, counted, reading):
                    await admission.settle({**costs, "tokens": counted or tokens}, reading)
                    return scores
                case RateLimited(retry_after_s, reading):
                    await admission.rate_limited(retry_after_s, reading)
                    reason = "its rate limit is spent"
                case Faulty():
                    await admission.failed()
                    reason = reply.reason
                    await asyncio.sleep(full_jitter(tried, base_s=BACKOFF_BASE_S, limit_s=5.0))
                case _:
                    await admission.settle({**costs, "tokens": 0}, timed=False)
                    raise RerankFailed(model=at.name, reason=_without_texts(reply))
        raise RerankFailed(model=at.name, reason=f"{reason}, again and again")

    async def _sent(self, query: str, texts: Sequence[str]) -> Scored | Reply:
        at = self._endpoint
        body: dict[str, Any] = {"model": at.model, "query": query, "documents": list(texts)}
        if at.provider == "voyage":
            body["truncation"] = True
        authorization = {"Authorization": f"Bearer {at.key}"}
        url = at.base_url.rstrip("/") + PATHS[at.provider]
        try:
            async with asyncio.timeout(at.timeout_s):
                got = await posted(at.client, url, body, authorization, key=at.key)
        except TimeoutError:
            return Faulty(f"no whole answer within {at.timeout_s:g} s")
        if isinstance(got, Reply):
            return got
        return _read(got.content, len(texts), reading_of(got.headers))


def _read(content: bytes, count: int, reading: Reading) -> Scored | Faulty:
    """An answer with one finite score for each text; any other is a fault of the server."""
    try:
        body = json.loads(content)
        listed = body["results"] if "results" in body else body["data"]
        found = {item["index"]: float(item["relevance_score"]) for item in listed}
        tokens = (body.get("usage") or {}).get("total_tokens")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Faulty("its answer holds no scores", bad_answer=True)
    whole = len(listed) == count and found.keys() == set(range(count))
    if not whole or not all(map(math.isfinite, found.values())):
        return Faulty("its answer has not one score for each text", bad_answer=True)
    counted = tokens if type(tokens) is int and tokens > 0 else None
    return Scored([found[index] for index in range(count)], counted, reading)


def _without_texts(reply: object) -> str:
    """A refusal may quote a text: only how it begins is the provider's alone."""
    return str(getattr(reply, "reason", "it refused")).partition(":")[0]

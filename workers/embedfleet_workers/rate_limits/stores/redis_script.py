"""Calls of one script, on one connection: calls that are made at once travel together."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from embedfleet_schema.redis_clients import aclose, async_client
from embedfleet_schema.redis_url import parse_redis_url
from embedfleet_workers.embedding_errors import StoreAway

if TYPE_CHECKING:
    from redis.asyncio import Redis

# A Redis that takes longer is as good as away: the limiter goes on without it.
ANSWER_S = 2.0
TOGETHER = 128
LONGEST_REASON = 200

_Call = tuple[tuple[str, ...], tuple[str | bytes, ...], asyncio.Future[Any]]


class RedisScript:
    """Runs a script by its hash, and loads it where the server does not know it (any more)."""

    def __init__(self, url: str, script: str) -> None:
        self._url = url
        self._source = script
        self._sha = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._client: Redis | None = None
        self._waiting: list[_Call] = []
        self._sender: asyncio.Task[None] | None = None
        self._wakes: set[asyncio.Task[None]] = set()

    @property
    def client(self) -> Redis:
        if self._client is None:
            self._client = _connected(self._url)
        return self._client

    async def call(self, keys: tuple[str, ...], words: tuple[str | bytes, ...]) -> Any:  # noqa: ANN401
        """The script's answer.

        Raises:
            StoreAway: Redis does not answer.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((keys, words, answer))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())
        return await answer

    async def wake(self, key: str, timeout_s: float) -> None:
        """Wait until something is in the list `key`, on a connection of its own."""
        # The client may swallow a cancellation, so it never meets one: it ends by itself.
        waiting = asyncio.create_task(self._popped(key, timeout_s))
        self._wakes.add(waiting)
        waiting.add_done_callback(self._wakes.discard)
        await asyncio.shield(waiting)

    async def close(self) -> None:
        for waiting in self._wakes:
            waiting.cancel()
        if self._client is not None:
            await aclose(self._client)

    async def _popped(self, key: str, timeout_s: float) -> None:
        from redis.exceptions import RedisError

        try:
            await self.client.blpop([key], timeout=timeout_s)
        except (RedisError, OSError) as error:
            raise StoreAway(told(error)) from error

    async def _send(self) -> None:
        while self._waiting:
            calls, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
            try:
                answers = await self._exchange(calls)
            except Exception as error:  # noqa: BLE001 - it is raised where the answer is waited for
                answers = [error] * len(calls)
            for (_, _, future), answer in zip(calls, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, BaseException):
                    away = StoreAway(told(answer))
                    away.__cause__ = answer
                    future.set_exception(away)
                else:
                    future.set_result(answer)

    async def _exchange(self, calls: Sequence[_Call]) -> list[Any]:
        from redis.exceptions import NoScriptError

        answers = await self._pipelined(calls)
        unknown = [n for n, each in enumerate(answers) if isinstance(each, NoScriptError)]
        if unknown:
            await self.client.script_load(self._source)
            for n, answer in zip(
                unknown, await self._pipelined([calls[n] for n in unknown]), strict=True
            ):
                answers[n] = answer
        return answers

    async def _pipelined(self, calls: Sequence[_Call]) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for keys, words, _ in calls:
            pipeline.evalsha(self._sha, len(keys), *keys, *words)
        return await pipeline.execute(raise_on_error=False)


def _connected(url: str) -> Redis:
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as Disconnected

    return async_client(
        parse_redis_url(url),
        socket_timeout=ANSWER_S,
        socket_connect_timeout=ANSWER_S,
        socket_keepalive=True,
        # Once: a connection may have died of a restart since it was last used.
        retry=Retry(NoBackoff(), 1, supported_errors=(Disconnected,)),
    )


def told(error: BaseException) -> str:
    """What Redis or the way to it says, in a line: a right that lacks reads otherwise than a wire
    that is cut.
    """
    return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON]

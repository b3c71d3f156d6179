"""The limiters of one process: one per limit, over one store, by the limits a person set."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from functools import partial

from embedfleet_schema.errors import EmbedfleetError
from embedfleet_schema.store.limits import LimitBook
from embedfleet_workers.embedding_errors import EmbedderBusy
from embedfleet_workers.rate_limits.limiter import KeyLimiter, LimiterOptions
from embedfleet_workers.rate_limits.quota import Admission, Amounts, LimitKey
from embedfleet_workers.rate_limits.stores.fallback_store import FallbackStore
from embedfleet_workers.rate_limits.stores.limit_store import LimitStore
from embedfleet_workers.rate_limits.stores.memory_store import MemoryStore
from embedfleet_workers.stop import Stop

log = logging.getLogger(__name__)

# A limit that a person sets is known in every process after this time.
REFRESH_S = 4.0
# PostgreSQL that does not answer in time is asked on, beside: the limits known so far go on.
PATIENCE_S = 1.0
BUSY_S = 5.0
# A request is over by the time its own deadline ends; then its slot is anybody's.
LEASE_S = 120.0


class LimiterRegistry:
    """Makes and keeps the limiter of each model and account. For one event loop of one process.

    Args:
        redis_url: where the fleet keeps the state; None keeps it in this process.
        read: the limits that a person set, from PostgreSQL; None: nobody set any.
        target: share of a limit that the fleet uses.
        lease_s: when the slot of a request is free again that was never given back.
        store: instead of Redis, for tests.
    """

    def __init__(
        self,
        redis_url: str | None,
        read: Callable[[], LimitBook] | None,
        *,
        target: float = 0.985,
        lease_s: float = LEASE_S,
        store: LimitStore | None = None,
    ) -> None:
        self.book = LimitBook()
        self._read = read
        self._options = LimiterOptions(
            target=target, lease_s=lease_s, by=f"{socket.gethostname()}:{os.getpid()}"
        )
        self._store = store or self._stored(redis_url)
        self._limiters_by_key: dict[LimitKey, KeyLimiter] = {}
        self._registry: dict[tuple[str, str, str], ModelLimiter] = {}
        self._known = False
        self._read_at: float | None = None
        self._reading: asyncio.Task[LimitBook] | None = None

    def limiter(self, provider: str, model: str, account: str) -> ModelLimiter:
        """The limiter of a model for an account (see `embedfleet_schema.accounts.account_of`).

        Any thread may ask. What a person set is read before the first limiter is given out, so that
        the first batch is already cut to it.
        """
        if self._read is not None and not self._registry:
            with contextlib.suppress(EmbedfleetError, OSError):
                self.book, self._known = self._read(), True
        wanted = (provider, model, account)
        return self._registry.setdefault(wanted, ModelLimiter(self, *wanted))

    def key_limiter(self, provider: str, model: str, account: str) -> KeyLimiter:
        """What a model draws on now: it may have been put into a group since."""
        key = LimitKey(provider, account, self.book.group_of(provider, model))
        found = self._limiters_by_key.get(key)
        if found is None:
            made = KeyLimiter(key, self._store, self._options, partial(self._quotas, key))
            # Threads that ask at once get the same one.
            found = self._limiters_by_key.setdefault(key, made)
        return found

    async def refresh(self) -> None:
        """Read what a person set, unless that was done a moment ago.

        Raises:
            EmbedderBusy: it could not be read even once.
        """
        loop = asyncio.get_running_loop()
        if self._read is None or (
            self._known and self._read_at is not None and loop.time() < self._read_at + REFRESH_S
        ):
            return
        if self._reading is None:
            self._reading = asyncio.create_task(asyncio.to_thread(self._read))
        reading = self._reading
        try:
            async with asyncio.timeout(PATIENCE_S):
                self.book, self._known = await asyncio.shield(reading), True
        except (EmbedfleetError, OSError, TimeoutError) as error:
            self._cannot_read(error)
        finally:
            if reading.done() and self._reading is reading:
                self._reading, self._read_at = None, loop.time()

    async def close(self) -> None:
        """Give back connections; whoever waits is woken."""
        for limiter in self._limiters_by_key.values():
            limiter.close()
        await self._store.close()

    def _cannot_read(self, error: Exception) -> None:
        if not self._known:
            reason = "the rate limits cannot be read from PostgreSQL"
            raise EmbedderBusy(seconds=BUSY_S, reason=reason) from error
        log.warning("the rate limits cannot be read, the old ones hold: %s", type(error).__name__)

    def _quotas(self, key: LimitKey) -> Amounts:
        return self.book.quotas(key.provider, key.account, key.group)

    def _stored(self, redis_url: str | None) -> LimitStore:
        if redis_url is None:
            return MemoryStore()
        from embedfleet_workers.rate_limits.stores.redis_store import RedisStore

        return FallbackStore(RedisStore(redis_url), lambda: self.book.api_workers)


class ModelLimiter:
    """Admits the requests of one model: the `Limiter` that embedders see."""

    def __init__(self, registry: LimiterRegistry, provider: str, model: str, account: str) -> None:
        self._registry = registry
        self._names = (provider, model, account)

    @property
    def key(self) -> LimitKey:
        return self._key_limiter.key

    @property
    def most_tokens(self) -> int | None:
        return self._key_limiter.most_tokens

    async def admit(self, costs: Amounts, *, max_wait_s: float) -> Admission:
        await self._registry.refresh()
        return await self._key_limiter.admit(costs, max_wait_s)

    async def stop(self, stop: Stop) -> None:
        await self._key_limiter.stop(stop)

    @property
    def _key_limiter(self) -> KeyLimiter:
        return self._registry.key_limiter(*self._names)

"""The limiters of one process: one per limit, over one store, by the limits a person set."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable

from embedfleet_schema.errors import EmbedfleetError
from embedfleet_schema.store.limits import LimitBook
from embedfleet_workers.embedding_errors import EmbedderBusy
from embedfleet_workers.rate_limits.limiter import Limiter
from embedfleet_workers.rate_limits.quota import LimitKey
from embedfleet_workers.rate_limits.stores.fallback_store import FallbackStore
from embedfleet_workers.rate_limits.stores.limit_store import LimitStore
from embedfleet_workers.rate_limits.stores.memory_store import MemoryStore

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
        self._read = read
        self._target = target
        self._lease_s = lease_s
        self._by = f"{socket.gethostname()}:{os.getpid()}"
        self._store = store or self._stored(redis_url)
        self._limiters: dict[LimitKey, Limiter] = {}
        self._by_model: dict[tuple[str, str, str], Limiter] = {}
        self._known = False
        self._read_at: float | None = None
        self._reading: asyncio.Task[LimitBook] | None = None
        self.book = LimitBook()

    @property
    def book(self) -> LimitBook:
        """What a person set, as it was last read."""
        return self._book

    @book.setter
    def book(self, book: LimitBook) -> None:
        self._book = book
        for key, limiter in list(self._limiters.items()):
            limiter.quotas = book.quotas(key.provider, key.account, key.group)
        # A model may have been put into a group, or taken out of it.
        self._by_model = {each: self._found_or_made(*each) for each in list(self._by_model)}

    def limiter(self, provider: str, model: str, account: str) -> Limiter:
        """What a model draws on now, for an account (`embedfleet_schema.accounts.account_of`).

        Any thread may ask. What a person set is read before the first limiter is given out, so that
        the first batch is already cut to it.
        """
        if self._read is not None and not self._limiters:
            with contextlib.suppress(EmbedfleetError, OSError):
                self.book, self._known = self._read(), True
        wanted = (provider, model, account)
        if (found := self._by_model.get(wanted)) is None:
            found = self._by_model[wanted] = self._found_or_made(*wanted)
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
        for limiter in self._limiters.values():
            limiter.close()
        await self._store.close()

    def _cannot_read(self, error: Exception) -> None:
        if not self._known:
            reason = "the rate limits cannot be read from PostgreSQL"
            raise EmbedderBusy(seconds=BUSY_S, reason=reason) from error
        log.warning("the rate limits cannot be read, the old ones hold: %s", type(error).__name__)

    def _found_or_made(self, provider: str, model: str, account: str) -> Limiter:
        key = LimitKey(provider, account, self.book.group_of(provider, model))
        if (found := self._limiters.get(key)) is None:
            made = Limiter(
                key,
                self._store,
                self.refresh,
                target=self._target,
                lease_s=self._lease_s,
                by=self._by,
            )
            made.quotas = self.book.quotas(provider, account, key.group)
            # Threads that ask at once get the same one.
            found = self._limiters.setdefault(key, made)
        return found

    def _stored(self, redis_url: str | None) -> LimitStore:
        if redis_url is None:
            return MemoryStore()
        from embedfleet_workers.rate_limits.stores.redis_store import RedisStore

        return FallbackStore(RedisStore(redis_url), lambda: self.book.api_workers)

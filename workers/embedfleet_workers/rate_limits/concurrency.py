"""Slots for requests under way: a semaphore of the fleet, or what a server is found to bear."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from uuid import uuid4

from embedfleet_schema.turns import Lane
from embedfleet_workers.rate_limits.quota import LimitKey
from embedfleet_workers.rate_limits.stores.limit_store import LimitStore
from embedfleet_workers.rate_limits.waiting import LaneQueue

FIRST = 4.0
MOST = 64.0
# After an error or a 429 the number is cut, but once for all requests that were under way then.
AFTER_FAULT = 0.5
AFTER_SLOWNESS = 0.9
# Answers that take this much longer than the best of late: more requests only wait in a queue.
SLOW = 2.0


# Gives a slot back: `answered` is None where the time of a request says nothing, `size` its tokens.
Release = Callable[..., Awaitable[None]]


async def fleet_slot(
    store: LimitStore, key: LimitKey, slots: int, *, lease_s: float, wait_s: float, lane: Lane
) -> Release | None:
    """One of so many slots of the whole fleet; None where that took too long."""
    holder = uuid4().hex
    if not await store.acquire(key, holder, slots=slots, lease_s=lease_s, wait_s=wait_s, lane=lane):
        return None

    async def release(*, answered: bool | None, size: float = 1.0) -> None:  # noqa: ARG001 - their number is fixed
        await store.release(key, holder, slots=slots)

    return release


class AdaptiveConcurrency:
    """How many requests at once a server bears that states no quota: found out by trying.

    Grows by one per round of good answers, shrinks by half on a fault. For one event loop.
    """

    def __init__(self) -> None:
        self.limit = FIRST
        self.in_flight = 0
        self._waiting = LaneQueue()
        # By size: an answer to a tenth of the texts is no better than one to all of them.
        self._usual_s: dict[int, float] = {}
        self._shrunk_at = -math.inf

    async def slot(self, timeout_s: float, lane: Lane = "bulk") -> Release | None:
        """One of the slots of this process; None where that took too long."""
        entered = await self.enter(timeout_s, lane)
        if entered is None:
            return None

        async def release(*, answered: bool | None, size: float = 1.0) -> None:
            self.leave(entered, answered=answered, size=size)

        return release

    async def enter(self, timeout_s: float, lane: Lane = "bulk") -> float | None:
        """Wait for a slot: the time of entering, or None where it took too long."""
        loop = asyncio.get_running_loop()
        if self._waiting or self._is_full():
            free = self._waiting.push(lane)
            try:
                async with asyncio.timeout(timeout_s):
                    await free
            except (TimeoutError, asyncio.CancelledError) as gone:
                if free.done() and not free.cancelled():
                    self.in_flight -= 1
                self._wake()
                if isinstance(gone, TimeoutError):
                    return None
                raise
        else:
            self.in_flight += 1
        return loop.time()

    def leave(self, entered: float, *, answered: bool | None, size: float = 1.0) -> None:
        """Give the slot back; `answered` is None where the time that it took says nothing.

        Times are compared among requests of like `size` (tokens), within a factor of two.
        """
        now = asyncio.get_running_loop().time()
        busy = self._is_full()
        self.in_flight -= 1
        if answered is False:
            self._shrink(AFTER_FAULT, entered, now)
        elif answered:
            self._compare(now - entered, self._usual(now - entered, size), entered, now, busy=busy)
        self._wake()

    def open(self) -> None:
        """A quota is known now, which limits better: nobody waits here any more."""
        self.limit = math.inf
        self._wake()

    def close(self) -> None:
        """No quota is known (any more): how many the server bears is found out again."""
        if math.isinf(self.limit):
            self.limit = FIRST

    def _usual(self, took_s: float, size: float) -> float:
        """The best of late: it creeps up, so that a server that became slower is believed."""
        alike = int(size).bit_length()
        usual_s = self._usual_s[alike] = min(took_s, self._usual_s.get(alike, math.inf) * 1.02)
        return usual_s

    def _compare(
        self, took_s: float, usual_s: float, entered: float, now: float, *, busy: bool
    ) -> None:
        if took_s > SLOW * usual_s + 0.05:
            self._shrink(AFTER_SLOWNESS, entered, now)
        elif busy and self.limit < MOST:
            self.limit = min(MOST, self.limit + 1.0 / self.limit)

    def _shrink(self, factor: float, entered: float, now: float) -> None:
        if entered >= self._shrunk_at:
            self.limit = max(1.0, self.limit * factor)
            self._shrunk_at = now

    def _wake(self) -> None:
        while not self._is_full() and (found := self._waiting.pop()) is not None:
            self.in_flight += 1
            found[1].set_result(None)

    def _is_full(self) -> bool:
        return self.in_flight + 1 > self.limit

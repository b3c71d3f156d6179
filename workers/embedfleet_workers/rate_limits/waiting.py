"""Who waits in this process: first come, first served, and few of them hold a turn of the fleet's.

A turn that is reserved far ahead is lost for the fleet when its process dies, and leaves a gap when
its caller goes away. So only the head of the line asks for one, and for one that comes soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from embedfleet_workers.rate_limits.quota import Amounts
from embedfleet_workers.rate_limits.stores.limit_store import Reservation

# How far ahead turns are reserved: long beside a round trip and a process that is late, short
# beside a minute.
AHEAD_S = 2.0
# Who takes over a turn may need a little more than it was reserved for: that is settled afterwards,
# like an estimate that was too low.
ROOM = 1.1
# A turn that nobody took over for so long is lost.
LATE_S = 1.0


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A turn whose caller went away, what it was reserved for, and when it comes (loop's time)."""

    turn: Reservation
    costs: Amounts
    due: float

    def fits(self, costs: Amounts) -> bool:
        return all(cost <= ROOM * self.costs.get(name, 0.0) for name, cost in costs.items())


class WaitQueue:
    """The line of one limit in one process. For one event loop."""

    def __init__(self) -> None:
        self._head = asyncio.Lock()
        self._waiting: dict[object, Amounts] = {}
        self._spares: list[HandedOver] = []
        # When the turn of whoever is at the head may come, as far as it was told (loop's time).
        self.head_due = 0.0

    def wait_s(self, rates: Mapping[str, float], now: float) -> float:
        """The least that a newcomer waits for those before it, were all of `rates` (per second)
        theirs.
        """
        ahead = [
            sum(costs.get(name, 0.0) for costs in self._waiting.values()) / rate
            for name, rate in rates.items()
            if rate > 0
        ]
        if self._head.locked():
            ahead.append(self.head_due - now)
        return max(ahead, default=0.0)

    def leave(self, spare: HandedOver) -> bool:
        """Leave a turn to those in the line; False if nobody is there."""
        if not self._head.locked():
            return False
        self._spares.append(spare)
        return True

    def take_over(self, costs: Amounts, now: float, deadline: float) -> HandedOver | None:
        """A turn that was left, if it suits whoever is at the head."""
        self._spares = [each for each in self._spares if each.due >= now - LATE_S]
        for spare in self._spares:
            if spare.fits(costs) and spare.due <= deadline:
                self._spares.remove(spare)
                return spare
        return None

    @asynccontextmanager
    async def head(self, costs: Amounts, wait_s: float) -> AsyncIterator[None]:
        """Inside, the caller is at the head of the line.

        Raises:
            TimeoutError: that takes longer than `wait_s`.
        """
        slot = object()
        self._waiting[slot] = costs
        try:
            async with asyncio.timeout(wait_s):
                await self._head.acquire()
        finally:
            del self._waiting[slot]
        try:
            yield
        finally:
            self._head.release()

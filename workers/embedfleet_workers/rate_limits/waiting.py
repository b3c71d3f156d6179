"""Who waits in this process: first come, first served, and few of them hold a reservation.

A reservation far ahead is lost for the fleet when its process dies, and leaves a gap when its
caller goes away. So only the head of the queue reserves, and only what comes soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from embedfleet_workers.embedding_errors import StoreAway
from embedfleet_workers.rate_limits.quota import Amounts
from embedfleet_workers.rate_limits.stores.limit_store import ClockState, Reservation

# How far ahead is reserved: long beside a round trip and a process that is late, short beside a
# minute.
AHEAD_S = 2.0
# Who takes over a reservation may need a little more than it was made for: that is settled
# afterwards, like an estimate that was too low.
ROOM = 1.1
# A reservation that nobody took over for so long is lost.
LATE_S = 1.0
# One look at the store serves all who sleep here.
LOOK_S = 0.5

# A reservation whose caller was called off, what it was made for, and when it comes (loop's time).
HandedOver = tuple[Reservation, Amounts, float]


class WaitQueue:
    """The queue before one limit in one process. For one event loop.

    It wakes each when its time comes, and all of them at a stop. A pause, or a rate that changed,
    moves every reservation: the timers are set anew.

    Reservations of those who were called off are handed over to the head. In simulations that keeps
    up to 1.7% of the quota in use where eight requests are called off every ten seconds.

    Args:
        clock_state: asks the store.
    """

    def __init__(self, clock_state: Callable[[], Awaitable[ClockState]]) -> None:
        self._clock_state = clock_state
        self._head = asyncio.Lock()
        self._behind: dict[object, Amounts] = {}
        self._handed_over: list[HandedOver] = []
        # When the time of whoever is at the head may come, as far as it was told (loop's time).
        self.head_due = 0.0
        self._timers: dict[asyncio.Future[None], tuple[Reservation, asyncio.TimerHandle]] = {}
        self._resting: set[asyncio.Future[None]] = set()
        self._watcher: asyncio.Task[None] | None = None

    def wait_s(self, rates: Mapping[str, float], now: float) -> float:
        """The least that a newcomer waits for those before it, were all of `rates` (per second)
        theirs.
        """
        ahead = [
            sum(costs.get(name, 0.0) for costs in self._behind.values()) / rate
            for name, rate in rates.items()
            if rate > 0
        ]
        if self._head.locked():
            ahead.append(self.head_due - now)
        return max(ahead, default=0.0)

    @asynccontextmanager
    async def head(self, costs: Amounts, wait_s: float) -> AsyncIterator[None]:
        """Inside, the caller is at the head of the queue.

        Raises:
            TimeoutError: that takes longer than `wait_s`.
        """
        caller = object()
        self._behind[caller] = costs
        try:
            async with asyncio.timeout(wait_s):
                await self._head.acquire()
        finally:
            del self._behind[caller]
        try:
            yield
        finally:
            self._head.release()

    def hand_over(self, reservation: Reservation, costs: Amounts, due: float) -> bool:
        """Leave a reservation to the head of the queue; False if nobody is there."""
        if not self._head.locked():
            return False
        self._handed_over.append((reservation, costs, due))
        self._rouse()
        return True

    def take_over(self, costs: Amounts, now: float, deadline: float) -> HandedOver | None:
        """A reservation that was left, if it suits whoever is at the head."""
        self._handed_over = [each for each in self._handed_over if each[2] >= now - LATE_S]
        for each in self._handed_over:
            _, reserved, due = each
            if due <= deadline and all(
                cost <= ROOM * reserved.get(name, 0.0) for name, cost in costs.items()
            ):
                self._handed_over.remove(each)
                return each
        return None

    async def sleep(self, reservation: Reservation, seconds: float) -> None:
        """Until its time has come, or there is something that has to be looked at."""
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._set_timer(sleeper, reservation, seconds)
        self._watch_store()
        try:
            await sleeper
        finally:
            _, timer = self._timers.pop(sleeper)
            timer.cancel()

    async def rest(self, seconds: float) -> None:
        """Sleep without a reservation; a stop ends it, and one that is handed over."""
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = asyncio.get_running_loop().call_later(seconds, _end, sleeper)
        self._resting.add(sleeper)
        self._watch_store()
        try:
            await sleeper
        finally:
            self._resting.discard(sleeper)
            timer.cancel()

    def wake(self) -> None:
        """Let all of them look for themselves."""
        self._rouse()
        for sleeper in tuple(self._timers):
            _end(sleeper)

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        self.wake()

    def _rouse(self) -> None:
        """Let those look who have no reservation."""
        for sleeper in tuple(self._resting):
            _end(sleeper)

    def _set_timer(
        self, sleeper: asyncio.Future[None], reservation: Reservation, seconds: float
    ) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, _end, sleeper)
        self._timers[sleeper] = (reservation, timer)

    def _watch_store(self) -> None:
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while self._timers or self._resting:
            await asyncio.sleep(LOOK_S)
            try:
                state = await self._clock_state()
            except StoreAway:
                # Each finds out for itself when its timer rings.
                continue
            if state.stopped is not None:
                self.wake()
            for sleeper, (reservation, timer) in list(self._timers.items()):
                if reservation.epoch != state.epoch:
                    _end(sleeper)
                elif not sleeper.done():
                    timer.cancel()
                    self._set_timer(sleeper, reservation, state.wait_s(reservation.tat))


def _end(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)

"""Who waits in this process, by lane and then as they came: few of them hold a reservation.

A reservation far ahead is lost for the fleet when its process dies, and leaves a gap when its
caller goes away. So only the head of the queue reserves, and only what comes soon.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from embedfleet_schema.turns import LANES, Lane
from embedfleet_workers.embedding_errors import StoreAway
from embedfleet_workers.lanes import IN_A_ROW
from embedfleet_workers.rate_limits.quota import Amounts
from embedfleet_workers.rate_limits.stores.limit_store import ClockState, Reservation

# How far ahead is reserved: long beside a round trip and a process that is late, short beside a
# minute.
AHEAD_S = 2.0
# The head of the queue asks again when the free time is closer than this share of how far ahead it
# may reserve, and never without a rest.
ASK, SHORTEST_REST_S = 0.75, 0.01
# Bulk that has been at the head for so long, with a free time no further than `NEAR_S`, reserves as
# far ahead as what is interactive: in other processes, that may take all there is.
AGED_S, NEAR_S = 30.0, 3 * AHEAD_S
# Who takes over a reservation may need a little more than it was made for: that is settled
# afterwards, like an estimate that was too low.
ROOM = 1.1
# A reservation that nobody took over for so long is lost.
LATE_S = 1.0
# One look at the store serves all who sleep here.
LOOK_S = 0.5

Waiter = asyncio.Future[None]
# A reservation whose caller was called off, what it was made for, and when it comes (loop's time).
HandedOver = tuple[Reservation, Amounts, float]


@dataclass(frozen=True, slots=True)
class Asks:
    """What a request asks for: its costs, and in which lane it waits until when."""

    costs: Amounts
    max_wait_s: float
    deadline: float
    lane: Lane

    def ahead_s(self, near_for_s: float) -> float:
        """How far ahead it may reserve. Bulk leaves room behind what all processes have reserved,
        so that what is interactive finds a time at once, wherever it is asked for.
        """
        is_first = self.lane == "interactive" or near_for_s >= AGED_S
        return 2 * AHEAD_S if is_first else AHEAD_S

    def is_near(self, wait_s: float) -> bool:
        """Whether only what others have reserved keeps it waiting."""
        return wait_s <= NEAR_S

    def rest_s(self, wait_s: float, ahead_s: float) -> float:
        """When to ask again for a free time that is `wait_s` away."""
        return max(SHORTEST_REST_S, wait_s - ASK * ahead_s)


class LaneQueue:
    """Waiters in the order of their lanes, and first come, first served in each. Bulk is due after
    some interactive ones in a row.
    """

    def __init__(self) -> None:
        self._waiting: dict[Lane, deque[Waiter]] = {lane: deque() for lane in LANES}
        self._in_a_row = 0

    def has(self, lane: Lane) -> bool:
        return any(not waiter.done() for waiter in self._waiting[lane])

    def __bool__(self) -> bool:
        return any(map(self.has, LANES))

    def push(self, lane: Lane, *, first: bool = False) -> Waiter:
        """A new waiter of a lane, the last of it or the first."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        (self._waiting[lane].appendleft if first else self._waiting[lane].append)(waiter)
        return waiter

    def pop(self) -> tuple[Lane, Waiter] | None:
        """Whose turn it is; who left is forgotten."""
        for queue in self._waiting.values():
            while queue and queue[0].done():
                queue.popleft()
        interactive, bulk = self._waiting["interactive"], self._waiting["bulk"]
        if interactive and not (bulk and self._in_a_row >= IN_A_ROW):
            self._in_a_row += bool(bulk)
            return "interactive", interactive.popleft()
        self._in_a_row = 0
        return ("bulk", bulk.popleft()) if bulk else None


class LaneLock:
    """An asyncio.Lock that is handed over in the order of a `LaneQueue`."""

    def __init__(self) -> None:
        self._waiting = LaneQueue()
        self._held_by: Lane | None = None
        self._in_turn = self._taken = False

    def locked(self) -> bool:
        """Whether somebody holds it; who was handed it takes it when it wakes."""
        return self._taken

    @property
    def is_wanted(self) -> bool:
        """Whether an interactive caller waits for a bulk one whose turn it is not."""
        return self._held_by == "bulk" and not self._in_turn and self._waiting.has("interactive")

    async def acquire(self, lane: Lane, *, first: bool = False) -> None:
        """Wait for the lock, `first` of the lane where it was given up for another one."""
        if self._held_by is None:
            self._held_by, self._in_turn, self._taken = lane, False, True
            return
        waiter = self._waiting.push(lane, first=first)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                # It was handed over at this very moment: now it is the next one's.
                self.release()
            raise
        self._taken = True

    def release(self) -> None:
        found, self._taken = self._waiting.pop(), False
        if found is None:
            self._held_by = None
            return
        self._held_by, waiter = found
        self._in_turn = self._waiting.has("interactive")
        waiter.set_result(None)


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
        self._head = LaneLock()
        self._behind: dict[object, tuple[Amounts, Lane]] = {}
        self._handed_over: list[HandedOver] = []
        # When the time of whoever is at the head may come, as far as it was told (loop's time).
        self.head_due = 0.0
        self._timers: dict[asyncio.Future[None], tuple[Reservation, asyncio.TimerHandle]] = {}
        self._resting: set[asyncio.Future[None]] = set()
        self._watcher: asyncio.Task[None] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether the head should let an interactive request go first."""
        return self._head.is_wanted

    def wait_s(self, rates: Mapping[str, float], now: float, lane: Lane = "bulk") -> float:
        """The least that a newcomer waits for those before it, were all of `rates` (per second)
        theirs.
        """
        before = [costs for costs, each in self._behind.values() if each in ("interactive", lane)]
        ahead = [
            sum(costs.get(name, 0.0) for costs in before) / rate
            for name, rate in rates.items()
            if rate > 0
        ]
        if self._head.locked() and lane == "bulk":
            ahead.append(self.head_due - now)
        return max(ahead, default=0.0)

    @asynccontextmanager
    async def head(self, asks: Asks, now: float, *, again: bool = False) -> AsyncIterator[None]:
        """Inside, the caller is at the head of the queue; `again` where it let others go first.

        Raises:
            TimeoutError: its deadline comes first.
        """
        caller = object()
        self._behind[caller] = asks.costs, asks.lane
        if asks.lane == "interactive":
            self._rouse()
        try:
            async with asyncio.timeout(asks.deadline - now):
                await self._head.acquire(asks.lane, first=again)
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

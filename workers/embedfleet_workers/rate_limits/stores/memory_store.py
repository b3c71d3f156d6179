"""The limiter's state in one process: for a single worker, for tests, and while Redis is away."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from embedfleet_workers.rate_limits.quota import Amounts, LimitKey
from embedfleet_workers.rate_limits.stores.gcra import NEAR, SECOND, Gcra
from embedfleet_workers.rate_limits.stores.limit_store import (
    STOP_S,
    ClockState,
    Cost,
    DimensionState,
    Lost,
    Penalty,
    Reading,
    Reservation,
    Snapshot,
    StoreAway,
    Ticket,
    WaitTooLong,
)
from embedfleet_workers.stop import Stop


@dataclass(slots=True)
class _Semaphore:
    """Requests under way, with the time at which each is given up, and who waits for a slot."""

    taken: dict[str, float] = field(default_factory=dict)
    queue: OrderedDict[str, asyncio.Future[None]] = field(default_factory=OrderedDict)


class MemoryStore:
    """State that only this process sees. For one event loop.

    Args:
        clock: seconds; tests bring one of their own to run a minute in milliseconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states: dict[LimitKey, Gcra] = {}
        self._semaphores: dict[LimitKey, _Semaphore] = {}

    async def reserve(
        self, key: LimitKey, costs: Mapping[str, Cost], *, target: float, max_wait_s: float
    ) -> Reservation | WaitTooLong | Stop:
        now = self._now()
        gcra = self._state(key)
        if (stopped := gcra.stopped(now)) is not None:
            return stopped
        granted, at, wait = gcra.reserve(now, costs, target, max_wait_s * SECOND)
        if not granted:
            return WaitTooLong(wait / SECOND)
        dimensions = gcra.dimensions
        return Reservation(
            Ticket(gcra.epoch, at),
            0.0 if wait <= NEAR else wait / SECOND,
            now,
            limited=any(dimensions[name].rate > 0 for name in costs),
            seen={name: dimensions[name].seen for name in costs if dimensions[name].seen > 0},
        )

    async def confirm(
        self, key: LimitKey, ticket: Ticket, costs: Amounts
    ) -> Reservation | Lost | Stop:
        now = self._now()
        gcra = self._states.get(key)
        if gcra is None or gcra.epoch != ticket.epoch:
            return Lost()
        if (stopped := gcra.stopped(now)) is not None:
            gcra.withdraw(now, ticket.tat, costs)
            return stopped
        wait = gcra.confirm(now, ticket.tat, costs)
        return Reservation(ticket, 0.0 if wait <= NEAR else wait / SECOND, now)

    async def refund(self, key: LimitKey, ticket: Ticket, costs: Amounts, *, sent: bool) -> None:
        gcra = self._states.get(key)
        if gcra is not None and gcra.epoch == ticket.epoch:
            if sent:
                gcra.give_back(self._now(), costs, sent=True)
            else:
                gcra.withdraw(self._now(), ticket.tat, costs)

    async def settle(
        self, key: LimitKey, turn: Reservation, delta: Amounts, readings: Mapping[str, Reading]
    ) -> None:
        now = self._now()
        gcra = self._state(key)
        if gcra.epoch == turn.ticket.epoch:
            gcra.give_back(now, {name: -amount for name, amount in delta.items()}, sent=True)
            gcra.settle(now, turn.now)
        gcra.reading(now, readings)

    async def penalize(
        self,
        key: LimitKey,
        turn: Reservation,
        refunds: Amounts,
        readings: Mapping[str, Reading],
        penalty: Penalty,
    ) -> float:
        now = self._now()
        gcra = self._state(key)
        gcra.reading(now, readings)
        if gcra.epoch != turn.ticket.epoch:
            refunds = dict.fromkeys(refunds, 0.0)
        return gcra.penalize(now, turn.now, refunds, penalty) / SECOND

    async def acquire(
        self, key: LimitKey, ticket: str, *, slots: int, lease_s: float, wait_s: float
    ) -> bool:
        state = self._semaphores.setdefault(key, _Semaphore())
        expires = self._clock() + lease_s
        self._hand_over(state, slots)
        if not state.queue and len(state.taken) < slots:
            state.taken[ticket] = expires
            return True
        turn = state.queue[ticket] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except (TimeoutError, asyncio.CancelledError) as gone:
            # Its turn may have come at this very moment: then it is the next one's.
            await self.release(key, ticket, slots=slots)
            if isinstance(gone, TimeoutError):
                return False
            raise
        state.taken[ticket] = self._clock() + lease_s
        return True

    async def release(self, key: LimitKey, ticket: str, *, slots: int) -> None:
        state = self._semaphores.setdefault(key, _Semaphore())
        state.taken.pop(ticket, None)
        state.queue.pop(ticket, None)
        self._hand_over(state, slots)

    async def stop(self, key: LimitKey, stop: Stop, by: str) -> None:
        gcra = self._state(key)
        gcra.stop, gcra.stop_by = stop, by
        gcra.stop_until = self._now() + STOP_S * SECOND

    async def resume(self, key: LimitKey) -> None:
        if key in self._states:
            self._states[key].resume(self._now())

    async def clock_state(self, key: LimitKey) -> ClockState:
        now, gcra = self._now(), self._state(key)
        paused = max(0.0, gcra.starts - now)
        clock = gcra.time(now)
        return ClockState(gcra.epoch, clock, gcra.speed, paused, gcra.stopped(now))

    async def snapshot(self, key: LimitKey) -> Snapshot | None:
        now = self._now()
        gcra = self._states.get(key)
        if gcra is None:
            return None
        slots = self._semaphores.get(key, _Semaphore())
        dimensions = {
            name: DimensionState(
                seen=each.seen,
                effective=each.rate,
                used=each.use.at(now),
                ahead_s=gcra.ahead(name, now) / SECOND,
                foreign=each.foreign,
            )
            for name, each in sorted(gcra.dimensions.items())
        }
        return Snapshot(
            dimensions,
            paused_s=max(0.0, gcra.starts - now) / SECOND,
            paused_why=gcra.why,
            paused_by=gcra.by,
            slowed_to=gcra.factor(now),
            in_flight=len(slots.taken),
            waiting=len(slots.queue),
            stopped=gcra.stopped(now),
            stopped_by=gcra.stop_by,
        )

    async def keys(self) -> Sequence[LimitKey]:
        return list(self._states)

    async def close(self) -> None:
        """Nothing is held."""

    def knows(self, key: LimitKey, ticket: Ticket) -> bool:
        """Whether this store gave the ticket."""
        found = self._states.get(key)
        return found is not None and found.epoch == ticket.epoch

    def forget(self) -> None:
        """Lose everything, as a Redis does that was restarted."""
        self._states.clear()
        states = list(self._semaphores.values())
        self._semaphores.clear()
        for waiting in (turn for state in states for turn in state.queue.values()):
            if not waiting.done():
                waiting.set_exception(StoreAway("the state was forgotten"))

    def _now(self) -> float:
        return self._clock() * SECOND

    def _state(self, key: LimitKey) -> Gcra:
        found = self._states.get(key)
        if found is None:
            found = self._states[key] = Gcra(uuid4().hex, self._now())
        return found

    def _hand_over(self, state: _Semaphore, slots: int) -> None:
        """Give free slots to those who wait longest."""
        now = self._clock()
        for gone in [ticket for ticket, until in state.taken.items() if until <= now]:
            del state.taken[gone]
        while state.queue and len(state.taken) < slots:
            ticket, turn = state.queue.popitem(last=False)
            if not turn.done():
                # Its lease begins when it wakes; until then the slot is only kept.
                state.taken[ticket] = now + 5.0
                turn.set_result(None)

"""The limiter's state in one process: for a single worker, for tests, and while Redis is away."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from embedfleet_workers.rate_limits.quota import Amounts, LimitKey
from embedfleet_workers.rate_limits.stores.gcra import NEAR, SECOND, Schedule
from embedfleet_workers.rate_limits.stores.limit_store import (
    STOP_S,
    Ask,
    DimensionState,
    Glance,
    Lost,
    Refusal,
    Sight,
    Snapshot,
    StoreAway,
    Ticket,
    TooFar,
    Turn,
)
from embedfleet_workers.stop import Stop


@dataclass(slots=True)
class _Places:
    """Requests under way, with the time at which each is given up, and who waits for a place."""

    taken: dict[str, float] = field(default_factory=dict)
    queue: OrderedDict[str, asyncio.Future[None]] = field(default_factory=OrderedDict)


class MemoryStore:
    """State that only this process sees. For one event loop.

    Args:
        clock: seconds; tests bring one of their own to run a minute in milliseconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._schedules: dict[LimitKey, Schedule] = {}
        self._places: dict[LimitKey, _Places] = {}

    async def reserve(
        self, key: LimitKey, asks: Mapping[str, Ask], *, target: float, max_wait_s: float
    ) -> Turn | TooFar | Stop:
        now = self._now()
        schedule = self._schedule(key)
        if (stopped := schedule.stopped(now)) is not None:
            return stopped
        granted, at, wait = schedule.reserve(now, asks, target, max_wait_s * SECOND)
        if not granted:
            return TooFar(wait / SECOND)
        dimensions = schedule.dimensions
        return Turn(
            Ticket(schedule.epoch, at),
            0.0 if wait <= NEAR else wait / SECOND,
            now,
            limited=any(dimensions[name].rate > 0 for name in asks),
            seen={name: dimensions[name].seen for name in asks if dimensions[name].seen > 0},
        )

    async def confirm(self, key: LimitKey, ticket: Ticket, costs: Amounts) -> Turn | Lost | Stop:
        now = self._now()
        schedule = self._schedules.get(key)
        if schedule is None or schedule.epoch != ticket.epoch:
            return Lost()
        if (stopped := schedule.stopped(now)) is not None:
            schedule.withdraw(now, ticket.at, costs)
            return stopped
        wait = schedule.confirm(now, ticket.at, costs)
        return Turn(ticket, 0.0 if wait <= NEAR else wait / SECOND, now)

    async def refund(self, key: LimitKey, ticket: Ticket, costs: Amounts, *, sent: bool) -> None:
        schedule = self._schedules.get(key)
        if schedule is not None and schedule.epoch == ticket.epoch:
            if sent:
                schedule.give_back(self._now(), costs, sent=True)
            else:
                schedule.withdraw(self._now(), ticket.at, costs)

    async def settle(
        self, key: LimitKey, turn: Turn, delta: Amounts, sights: Mapping[str, Sight]
    ) -> None:
        now = self._now()
        schedule = self._schedule(key)
        if schedule.epoch == turn.ticket.epoch:
            schedule.give_back(now, {name: -amount for name, amount in delta.items()}, sent=True)
            schedule.settle(now, turn.now)
        schedule.sight(now, sights)

    async def penalize(
        self,
        key: LimitKey,
        turn: Turn,
        refunds: Amounts,
        sights: Mapping[str, Sight],
        refusal: Refusal,
    ) -> float:
        now = self._now()
        schedule = self._schedule(key)
        schedule.sight(now, sights)
        if schedule.epoch != turn.ticket.epoch:
            refunds = dict.fromkeys(refunds, 0.0)
        return schedule.penalize(now, turn.now, refunds, refusal) / SECOND

    async def acquire(
        self, key: LimitKey, ticket: str, *, places: int, lease_s: float, wait_s: float
    ) -> bool:
        state = self._places.setdefault(key, _Places())
        expires = self._clock() + lease_s
        self._hand_over(state, places)
        if not state.queue and len(state.taken) < places:
            state.taken[ticket] = expires
            return True
        turn = state.queue[ticket] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except (TimeoutError, asyncio.CancelledError) as gone:
            # Its turn may have come at this very moment: then it is the next one's.
            await self.release(key, ticket, places=places)
            if isinstance(gone, TimeoutError):
                return False
            raise
        state.taken[ticket] = self._clock() + lease_s
        return True

    async def release(self, key: LimitKey, ticket: str, *, places: int) -> None:
        state = self._places.setdefault(key, _Places())
        state.taken.pop(ticket, None)
        state.queue.pop(ticket, None)
        self._hand_over(state, places)

    async def stop(self, key: LimitKey, stop: Stop, by: str) -> None:
        schedule = self._schedule(key)
        schedule.stop, schedule.stop_by = stop, by
        schedule.stop_until = self._now() + STOP_S * SECOND

    async def resume(self, key: LimitKey) -> None:
        if key in self._schedules:
            self._schedules[key].resume(self._now())

    async def glance(self, key: LimitKey) -> Glance:
        now, schedule = self._now(), self._schedule(key)
        paused = max(0.0, schedule.starts - now)
        clock = schedule.time(now)
        return Glance(schedule.epoch, clock, schedule.speed, paused, schedule.stopped(now))

    async def snapshot(self, key: LimitKey) -> Snapshot | None:
        now = self._now()
        schedule = self._schedules.get(key)
        if schedule is None:
            return None
        places = self._places.get(key, _Places())
        dimensions = {
            name: DimensionState(
                seen=each.seen,
                effective=each.rate,
                used=each.use.at(now),
                ahead_s=schedule.ahead(name, now) / SECOND,
                foreign=each.foreign,
            )
            for name, each in sorted(schedule.dimensions.items())
        }
        return Snapshot(
            dimensions,
            paused_s=max(0.0, schedule.starts - now) / SECOND,
            paused_why=schedule.why,
            paused_by=schedule.by,
            slowed_to=schedule.factor(now),
            in_flight=len(places.taken),
            waiting=len(places.queue),
            stopped=schedule.stopped(now),
            stopped_by=schedule.stop_by,
        )

    async def keys(self) -> Sequence[LimitKey]:
        return list(self._schedules)

    async def close(self) -> None:
        """Nothing is held."""

    def knows(self, key: LimitKey, ticket: Ticket) -> bool:
        """Whether this store gave the ticket."""
        found = self._schedules.get(key)
        return found is not None and found.epoch == ticket.epoch

    def forget(self) -> None:
        """Lose everything, as a Redis does that was restarted."""
        self._schedules.clear()
        states = list(self._places.values())
        self._places.clear()
        for waiting in (turn for state in states for turn in state.queue.values()):
            if not waiting.done():
                waiting.set_exception(StoreAway("the state was forgotten"))

    def _now(self) -> float:
        return self._clock() * SECOND

    def _schedule(self, key: LimitKey) -> Schedule:
        found = self._schedules.get(key)
        if found is None:
            found = self._schedules[key] = Schedule(uuid4().hex, self._now())
        return found

    def _hand_over(self, state: _Places, places: int) -> None:
        """Give free places to those who wait longest."""
        now = self._clock()
        for gone in [ticket for ticket, until in state.taken.items() if until <= now]:
            del state.taken[gone]
        while state.queue and len(state.taken) < places:
            ticket, turn = state.queue.popitem(last=False)
            if not turn.done():
                # Its lease begins when it wakes; until then the place is only kept.
                state.taken[ticket] = now + 5.0
                turn.set_result(None)

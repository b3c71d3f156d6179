"""The limiter's state in one process: for a single worker, for tests, and while Redis is away."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import uuid4

from embedfleet_schema.turns import Lane
from embedfleet_workers.embedding_errors import StoreAway
from embedfleet_workers.rate_limits.quota import COUNTED, NOTHING, Amounts, LimitKey, Reading
from embedfleet_workers.rate_limits.stores import learning
from embedfleet_workers.rate_limits.stores.gcra import NEAR, STOP, Gcra
from embedfleet_workers.rate_limits.stores.learning import SECOND
from embedfleet_workers.rate_limits.stores.limit_store import (
    ClockState,
    DimensionState,
    Penalty,
    Reservation,
    Snapshot,
    WaitTooLong,
    head_start_s,
)
from embedfleet_workers.stop import Stop

# Who waits for a slot: since when, or as if, and what ends the wait.
Waiter = tuple[float, asyncio.Future[None]]
# A slot that was handed over is kept so long for who wakes up for it.
TAKE_UP_S = 5.0


class MemoryStore:
    """State that only this process sees. For one event loop.

    Args:
        clock: seconds; tests bring one of their own to run a minute in milliseconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states: dict[LimitKey, Gcra] = {}
        # The semaphore of each key: who has a slot and until when, and who waits for one.
        self._holders: defaultdict[LimitKey, dict[str, float]] = defaultdict(dict)
        self._queues: defaultdict[LimitKey, dict[str, Waiter]] = defaultdict(dict)

    async def reserve(
        self,
        key: LimitKey,
        costs: Amounts,
        *,
        quotas: Amounts,
        stated: Amounts,
        target: float,
        max_wait_s: float,
    ) -> Reservation | WaitTooLong | Stop:
        now = self._now()
        gcra = self._state(key)
        if (stopped := gcra.stopped(now)) is not None:
            return stopped
        gcra.retune(now, costs, quotas, stated, target)
        granted, tat, wait = gcra.reserve(now, costs, max_wait_s * SECOND)
        if not granted:
            return WaitTooLong(wait / SECOND)
        dimensions = gcra.dimensions
        return Reservation(
            gcra.epoch,
            tat,
            0.0 if wait <= NEAR else wait / SECOND,
            now,
            is_limited=any(dimensions[name].rate > 0 for name in costs),
            **_known(gcra, costs),
        )

    async def confirm(
        self, key: LimitKey, reservation: Reservation, costs: Amounts
    ) -> Reservation | Stop | None:
        now = self._now()
        gcra = self._states.get(key)
        if gcra is None or gcra.epoch != reservation.epoch:
            return None
        if (stopped := gcra.stopped(now)) is not None:
            gcra.withdraw(now, reservation.tat, costs)
            return stopped
        wait = gcra.confirm(now, reservation.tat, costs)
        wait_s = 0.0 if wait <= NEAR else wait / SECOND
        return Reservation(reservation.epoch, reservation.tat, wait_s, now)

    async def refund(
        self, key: LimitKey, reservation: Reservation, costs: Amounts, *, sent: bool
    ) -> None:
        gcra = self._states.get(key)
        if gcra is not None and gcra.epoch == reservation.epoch:
            if sent:
                gcra.give_back(self._now(), costs, sent=True)
            else:
                gcra.withdraw(self._now(), reservation.tat, costs)

    async def settle(
        self,
        key: LimitKey,
        reservation: Reservation,
        delta: Amounts,
        reading: Reading,
        costs: Amounts = NOTHING,
    ) -> None:
        now = self._now()
        gcra = self._state(key)
        if gcra.epoch == reservation.epoch:
            gcra.give_back(now, {name: -amount for name, amount in delta.items()}, sent=True)
            gcra.settle(now, reservation.answered_at, costs)
        gcra.read(now, reading)

    async def penalize(
        self,
        key: LimitKey,
        reservation: Reservation,
        refunds: Amounts,
        reading: Reading,
        penalty: Penalty,
    ) -> float:
        now = self._now()
        gcra = self._state(key)
        if gcra.epoch != reservation.epoch:
            refunds = dict.fromkeys(refunds, 0.0)
        gcra.read(now, reading)
        return gcra.penalize(now, reservation.answered_at, refunds, penalty) / SECOND

    async def acquire(
        self,
        key: LimitKey,
        holder: str,
        *,
        slots: int,
        lease_s: float,
        wait_s: float,
        lane: Lane = "bulk",
    ) -> bool:
        holders, queue = self._holders[key], self._queues[key]
        expires = self._clock() + lease_s
        self._hand_over(key, slots)
        if not queue and len(holders) < slots:
            holders[holder] = expires
            return True
        free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue[holder] = self._clock() - head_start_s(lane), free
        try:
            async with asyncio.timeout(wait_s):
                await free
        except (TimeoutError, asyncio.CancelledError) as gone:
            # A slot may have come at this very moment: then it is the next one's.
            await self.release(key, holder, slots=slots)
            if isinstance(gone, TimeoutError):
                return False
            raise
        holders[holder] = self._clock() + lease_s
        return True

    async def release(self, key: LimitKey, holder: str, *, slots: int) -> None:
        self._holders[key].pop(holder, None)
        self._queues[key].pop(holder, None)
        self._hand_over(key, slots)

    async def stop(self, key: LimitKey, stop: Stop, by: str) -> None:
        gcra = self._state(key)
        gcra.stop, gcra.stop_by = stop, by
        gcra.stop_until = self._now() + STOP

    async def resume(self, key: LimitKey) -> None:
        if key in self._states:
            self._states[key].resume(self._now())

    async def clock_state(self, key: LimitKey) -> ClockState:
        now, gcra = self._now(), self._state(key)
        paused = max(0.0, gcra.starts - now)
        clock, stopped = gcra.time(now), gcra.stopped(now)
        return ClockState(gcra.epoch, clock, gcra.speed, paused, stopped, **_known(gcra, COUNTED))

    async def snapshot(self, key: LimitKey) -> Snapshot | None:
        now = self._now()
        gcra = self._states.get(key)
        if gcra is None:
            return None
        dimensions = {
            name: DimensionState(
                stated=each.stated,
                effective=each.rate,
                used=each.used(now),
                ahead_s=gcra.ahead(name, now) / SECOND,
                foreign=each.foreign,
                learnt=0.0 if each.known else each.learnt,
            )
            for name, each in sorted(gcra.dimensions.items())
        }
        return Snapshot(
            dimensions,
            paused_s=max(0.0, gcra.starts - now) / SECOND,
            paused_why=gcra.why,
            paused_by=gcra.by,
            slowed_to=gcra.factor(now),
            in_flight=len(self._holders[key]),
            waiting=len(self._queues[key]),
            stopped=gcra.stopped(now),
            stopped_by=gcra.stop_by,
            largest=learning.largest(gcra),
        )

    async def keys(self) -> Sequence[LimitKey]:
        return list(self._states)

    async def close(self) -> None:
        """Nothing is held."""

    def knows(self, key: LimitKey, reservation: Reservation) -> bool:
        """Whether this store gave the reservation."""
        found = self._states.get(key)
        return found is not None and found.epoch == reservation.epoch

    def forget(self) -> None:
        """Lose everything, as a Redis does that was restarted."""
        self._states.clear()
        self._holders.clear()
        queues = list(self._queues.values())
        self._queues.clear()
        for waiting in (free for queue in queues for _, free in queue.values()):
            if not waiting.done():
                waiting.set_exception(StoreAway("the state was forgotten"))

    def _now(self) -> float:
        return self._clock() * SECOND

    def _state(self, key: LimitKey) -> Gcra:
        found = self._states.get(key)
        if found is None:
            found = self._states[key] = Gcra(uuid4().hex, self._now())
        return found

    def _hand_over(self, key: LimitKey, slots: int) -> None:
        """Give free slots to those who came first, or count as if they had."""
        holders, queue = self._holders[key], self._queues[key]
        now = self._clock()
        for gone in [holder for holder, until in holders.items() if until <= now]:
            del holders[gone]
        while queue and len(holders) < slots:
            holder = min(queue, key=lambda each: queue[each][0])
            _, free = queue.pop(holder)
            if not free.done():
                # Its lease begins when it wakes; until then the slot is only kept.
                holders[holder] = now + TAKE_UP_S
                free.set_result(None)


def _known(gcra: Gcra, names: Iterable[str]) -> dict[str, Any]:
    """What a process has to know of a limit, beside the clock."""
    named = [(name, gcra.dimensions[name]) for name in names if name in gcra.dimensions]
    return {
        "stated": {name: each.stated for name, each in named if each.stated > 0},
        "learnt": {name: each.learnt for name, each in named if each.learnt > 0 and not each.known},
        "largest": learning.largest(gcra),
    }

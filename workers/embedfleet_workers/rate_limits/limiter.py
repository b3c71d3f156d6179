"""The policy of one limit in one process: waits, and tells the store what answers said."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from uuid import uuid4

from embedfleet_workers.embedding_errors import EmbedderBusy
from embedfleet_workers.rate_limits.concurrency import AdaptiveConcurrency
from embedfleet_workers.rate_limits.quota import Amounts, LimitKey, Observed
from embedfleet_workers.rate_limits.readings import in_force, is_sane, wait_after_429
from embedfleet_workers.rate_limits.slots import FleetSlot, ProcessSlot, Slot
from embedfleet_workers.rate_limits.stores.limit_store import (
    STOP_S,
    Cost,
    LimitStore,
    Lost,
    Penalty,
    Reading,
    Reservation,
    WaitTooLong,
)
from embedfleet_workers.rate_limits.timers import Timers
from embedfleet_workers.rate_limits.waiting import AHEAD_S, HandedOver, WaitQueue
from embedfleet_workers.stop import Stop

log = logging.getLogger(__name__)

# The dimension that is a number of requests at once, not a rate.
CONCURRENCY = "concurrency"
# A request of more than this share of a minute's tokens cannot be spread evenly.
LARGEST_SHARE = 0.01
LEAST_BUSY_S = 0.25
# The head of a line asks again when the free turn is this close, and never without a rest.
ASK_S = 0.75 * AHEAD_S
SHORTEST_REST_S = 0.01


@dataclass(frozen=True, slots=True)
class LimiterOptions:
    """What all limiters of a process have in common.

    Args:
        target: share of a limit to use.
        lease_s: when the slot of a request that was never given back is free again.
        by: host and process, for those who ask who paused the fleet.
    """

    target: float
    lease_s: float
    by: str


class KeyLimiter:
    """One limit, as this process knows it. For one event loop."""

    def __init__(
        self,
        key: LimitKey,
        store: LimitStore,
        options: LimiterOptions,
        quotas: Callable[[], Amounts],
    ) -> None:
        self.key = key
        self.store = store
        self.options = options
        self._quotas = quotas
        self._seen: dict[str, float] = {}
        self._adaptive = AdaptiveConcurrency()
        self._queue = WaitQueue()
        self._timers = Timers(lambda: store.clock_state(key))

    @property
    def most_tokens(self) -> int | None:
        limit = in_force(self._quotas().get("tokens", 0.0), self._seen.get("tokens", 0.0))
        return max(1, int(LARGEST_SHARE * limit)) if limit > 0 else None

    async def admit(self, costs: Amounts, max_wait_s: float) -> KeyAdmission:
        """Wait for a slot and for the turn.

        Raises:
            EmbedderBusy: it would take longer than `max_wait_s`, or the fleet holds its calls.
        """
        deadline = _now() + max_wait_s
        slot = await self._slot(max_wait_s)
        try:
            turn, reserved = await self._turn(costs, deadline, max_wait_s)
        except BaseException:
            await asyncio.shield(slot.leave(answered=None))
            raise
        return KeyAdmission(self, turn, reserved, slot)

    async def stop(self, stop: Stop) -> None:
        await self.store.stop(self.key, stop, self.options.by)
        self._timers.wake()

    def readings(self, seen: Observed | None) -> dict[str, Reading]:
        """What headers said, as far as it can be believed."""
        found: dict[str, Reading] = {}
        if seen is None:
            return found
        quotas = self._quotas()
        for name, limit in seen.limits.items():
            if is_sane(limit, quotas.get(name, 0.0)):
                left = seen.remaining.get(name, -1.0)
                found[name] = Reading(limit, limit - left if 0 <= left <= limit else -1.0)
                self._seen[name] = limit
        if found:
            self._adaptive.open()
        return found

    def close(self) -> None:
        self._timers.close()

    async def _slot(self, max_wait_s: float) -> Slot:
        slots = int(self._quotas().get(CONCURRENCY, 0))
        slot: FleetSlot | ProcessSlot
        if slots > 0:
            slot = FleetSlot(self.store, self.key, uuid4().hex, slots)
            entered = await slot.enter(self.options.lease_s, max_wait_s)
        else:
            if self._limits():
                self._adaptive.open()
            else:
                self._adaptive.close()
            slot = ProcessSlot(self._adaptive)
            entered = await slot.enter(max_wait_s)
        if not entered:
            reason = f"all slots of {self.key} for requests are taken"
            raise EmbedderBusy(seconds=LEAST_BUSY_S, reason=reason)
        return slot

    async def _turn(
        self, costs: Amounts, deadline: float, max_wait_s: float
    ) -> tuple[Reservation, Amounts]:
        """A turn that has come, and what it was reserved for."""
        while True:
            self._check_wait(self._queue.wait_s(self._rates(), _now()), deadline, max_wait_s)
            try:
                async with self._queue.head(costs, deadline - _now()):
                    turn, reserved = await self._reserved(costs, deadline, max_wait_s)
            except TimeoutError:
                # Nobody knows how far it had come; the others of this process have waited as long.
                soon = random.uniform(1.0, 2.0) * LEAST_BUSY_S  # noqa: S311 - to spread them
                raise self._busy(soon) from None
            admitted = await self._wait(turn, reserved)
            if admitted is not None:
                return admitted, reserved

    async def _reserved(
        self, costs: Amounts, deadline: float, max_wait_s: float
    ) -> tuple[Reservation, Amounts]:
        """A turn that comes soon: it is asked for again when the one that is free comes closer."""
        while True:
            spare = self._queue.take_over(costs, _now(), deadline)
            if spare is not None:
                wait_s = max(SHORTEST_REST_S, spare.due - _now())
                return replace(spare.turn, wait_s=wait_s), spare.costs
            answer = await self._reserve(costs, min(AHEAD_S, max(0.0, deadline - _now())))
            if isinstance(answer, Stop):
                raise _held()
            if isinstance(answer, Reservation):
                self._learn(answer)
                return answer, costs
            self._queue.head_due = _now() + answer.wait_s
            self._check_wait(answer.wait_s, deadline, max_wait_s)
            await self._timers.rest(max(SHORTEST_REST_S, answer.wait_s - ASK_S))

    def _check_wait(self, wait_s: float, deadline: float, max_wait_s: float) -> None:
        if wait_s > max(0.0, deadline - _now()):
            # Back while others still wait, so that the rate is never left unused.
            raise self._busy(max(LEAST_BUSY_S, wait_s - max_wait_s / 2))

    def _busy(self, seconds: float) -> EmbedderBusy:
        return EmbedderBusy(seconds=seconds, reason=f"the rate limit of {self.key}")

    def _rates(self) -> dict[str, float]:
        """What is known of the limits, per second."""
        known = dict(self._seen)
        for name, quota in self._quotas().items():
            if quota > 0 and name != CONCURRENCY:
                known[name] = in_force(quota, known.get(name, 0.0))
        return {name: limit * self.options.target / 60.0 for name, limit in known.items()}

    async def _reserve(self, costs: Amounts, max_wait_s: float) -> Reservation | WaitTooLong | Stop:
        quotas = self._quotas()
        priced = {
            name: Cost(cost, quotas.get(name, 0.0), self._seen.get(name, 0.0))
            for name, cost in costs.items()
        }
        under_way = asyncio.ensure_future(
            self.store.reserve(self.key, priced, target=self.options.target, max_wait_s=max_wait_s)
        )
        try:
            return await asyncio.shield(under_way)
        except asyncio.CancelledError:
            answer = await under_way
            if isinstance(answer, Reservation):
                sent = answer.wait_s <= 0
                await self.store.refund(self.key, answer.ticket, costs, sent=sent)
            raise

    async def _wait(self, turn: Reservation, costs: Amounts) -> Reservation | None:
        """The same turn once it has come; None if the store does not know it any more."""
        while turn.wait_s > 0:
            await self._sleep(turn, costs)
            try:
                answer = await self.store.confirm(self.key, turn.ticket, costs)
            except asyncio.CancelledError:
                await self._withdraw(turn, costs)
                raise
            if isinstance(answer, Lost):
                return None
            if isinstance(answer, Stop):
                raise _held()
            turn = answer
        return turn

    async def _sleep(self, turn: Reservation, costs: Amounts) -> None:
        """Until the turn has come. Who is called off leaves it to the next in line."""
        due = _now() + turn.wait_s
        try:
            await self._timers.sleep(turn.ticket, turn.wait_s)
        except asyncio.CancelledError:
            if self._queue.leave(HandedOver(turn, costs, due)):
                self._timers.rouse()
            else:
                await self._withdraw(turn, costs)
            raise

    async def _withdraw(self, turn: Reservation, costs: Amounts) -> None:
        """Give the turn back, also where the caller is being called off."""
        await asyncio.shield(self.store.refund(self.key, turn.ticket, costs, sent=False))

    def _learn(self, turn: Reservation) -> None:
        self._seen.update(turn.seen)
        if turn.limited:
            self._adaptive.open()

    def _limits(self) -> bool:
        return bool(self._seen) or any(limit > 0 for limit in self._quotas().values())


class KeyAdmission:
    """The right to send one request; the first call that ends it counts."""

    def __init__(self, limiter: KeyLimiter, turn: Reservation, costs: Amounts, slot: Slot) -> None:
        self._key_limiter = limiter
        self._turn = turn
        self._costs = costs
        self._slot = slot
        self._ended = False

    async def settle(
        self, actual: Amounts | None = None, seen: Observed | None = None, *, timed: bool = True
    ) -> None:
        limiter = self._key_limiter
        delta = {
            name: amount - self._costs[name]
            for name, amount in (actual or {}).items()
            if name in self._costs and amount != self._costs[name]
        }
        readings = limiter.readings(seen)
        told = limiter.store.settle(limiter.key, self._turn, delta, readings)
        await self._end(told, answered=True if timed else None)

    async def rate_limited(
        self, retry_after_s: float | None = None, seen: Observed | None = None
    ) -> None:
        limiter = self._key_limiter
        pause = wait_after_429(self._costs, retry_after_s, seen)
        asked = f", asking for {pause:.2f} s" if pause >= 0 else ""
        refusal = Penalty(
            pause_s=pause,
            jitter=random.random(),  # noqa: S311 - to spread requests, not to guard anything
            why=f"the provider answered 429{asked}",
            by=limiter.options.by,
        )
        # Providers count a request that they refuse as one; its tokens they do not.
        refunds = {**self._costs, "requests": 0.0} if "requests" in self._costs else self._costs
        readings = limiter.readings(seen)
        await self._end(
            limiter.store.penalize(limiter.key, self._turn, refunds, readings, refusal),
            answered=False,
        )

    async def failed(self) -> None:
        # It may well have been counted: what was reserved for it stays spent.
        await self._end(None, answered=False)

    async def _end(self, told: Awaitable[object] | None, *, answered: bool | None) -> None:
        if self._ended:
            if asyncio.iscoroutine(told):
                told.close()
            return
        self._ended = True
        try:
            if told is not None:
                await told
        finally:
            size = self._costs.get("tokens", 1.0)
            await self._slot.leave(answered=answered, size=size)


def _held() -> EmbedderBusy:
    """Nothing of what others wrote to Redis goes on: it is no reason to pause a model."""
    reason = "another process was refused by the provider a moment ago"
    return EmbedderBusy(seconds=STOP_S, reason=reason)


def _now() -> float:
    return asyncio.get_running_loop().time()

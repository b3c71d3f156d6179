"""The rate limiter of one limit in one process: waits, and tells the store what answers said."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

from embedfleet_schema.turns import Lane
from embedfleet_workers.embedding_errors import EmbedderBusy
from embedfleet_workers.rate_limits.concurrency import AdaptiveConcurrency, Release, fleet_slot
from embedfleet_workers.rate_limits.quota import (
    NOTHING,
    Amounts,
    LimitKey,
    Reading,
    all_in_force,
    is_plausible,
    most_tokens,
    wait_after_429,
)
from embedfleet_workers.rate_limits.stores.limit_store import (
    STOP_S,
    ClockState,
    LimitStore,
    Penalty,
    Reservation,
    WaitTooLong,
)
from embedfleet_workers.rate_limits.waiting import LOOK_S, SHORTEST_REST_S, Asks, WaitQueue
from embedfleet_workers.stop import Stop

# The dimension that is a number of requests at once, not a rate.
CONCURRENCY = "concurrency"
LEAST_BUSY_S = 0.25


class Limiter:
    """Admits the requests of this process to one limit, in step with all other processes.

    For one event loop.

    Args:
        refresh: reads what a person set, unless that was done a moment ago.
        target: share of a limit to use.
        lease_s: when the slot of a request that was never given back is free again.
        by: host and process, for those who ask who paused the fleet.
    """

    def __init__(
        self,
        key: LimitKey,
        store: LimitStore,
        refresh: Callable[[], Awaitable[None]],
        *,
        target: float,
        lease_s: float,
        by: str,
    ) -> None:
        self.key = key
        self.store = store
        # What a person set, and what headers last said.
        self.quotas: Amounts = {}
        self.by = by
        self._stated: dict[str, float] = {}
        # What refusals taught the fleet.
        self._learnt: Amounts = {}
        self._largest = 0.0
        self._looked_at = -math.inf
        self._refresh = refresh
        self._target = target
        self._lease_s = lease_s
        self._adaptive = AdaptiveConcurrency()
        self._queue = WaitQueue(self._look)

    @property
    def most_tokens(self) -> int:
        """How large one request should be at the most, in tokens, by what the fleet knows."""
        return most_tokens(self._limits(), self._learnt, self._largest)

    async def look(self, *, at_once: bool = False) -> None:
        """Hear what the fleet found out, unless this process did a moment ago."""
        if at_once or _now() >= self._looked_at + LOOK_S:
            await self._look()

    async def admit(self, costs: Amounts, *, max_wait_s: float, lane: Lane = "bulk") -> Admission:
        """Wait until a request that costs this much may be sent: the interactive lane first, and in
        each lane first come, first served.

        First for a slot among the requests under way (a semaphore), then for its time (GCRA).

        Raises:
            EmbedderBusy: it would take longer than `max_wait_s`, or the fleet holds its calls;
                nothing was reserved.
        """
        await self._refresh()
        asks = Asks(costs, max_wait_s, _now() + max_wait_s, lane)
        release, again = await self._take_slot(max_wait_s, lane), False
        try:
            while True:
                self._check_wait(self._queue.wait_s(self._rates(), _now(), lane), asks)
                try:
                    async with self._queue.head(asks, _now(), again=again):
                        found = await self._reserve(asks)
                except TimeoutError:
                    # Nobody knows how far it had come; the others of this process waited as long.
                    soon = random.uniform(1.0, 2.0) * LEAST_BUSY_S  # noqa: S311 - to spread them
                    raise self._busy(soon) from None
                again = found is None
                if found is not None and (confirmed := await self._wait_for(*found)) is not None:
                    return Admission(self, confirmed, found[1], release)
        except BaseException:
            await asyncio.shield(release(answered=None))
            raise

    async def stop(self, stop: Stop) -> None:
        """Tell the whole fleet at once that the provider refuses this account."""
        await self.store.stop(self.key, stop, self.by)
        self._queue.wake()

    def learn(self, reading: Reading | None) -> Reading:
        """Note what headers said; returns of it what can be believed."""
        limits = {
            name: limit
            for name, limit in (reading.limits if reading else {}).items()
            if is_plausible(limit, self.quotas.get(name, 0.0))
        }
        if reading is None or not limits:
            return Reading()
        self._stated.update(limits)
        self._adaptive.open()
        return Reading(limits, reading.remaining)

    def close(self) -> None:
        self._queue.close()

    async def _take_slot(self, max_wait_s: float, lane: Lane) -> Release:
        """A slot of the fleet's semaphore where a person set a number, else of this process's."""
        slots = int(self.quotas.get(CONCURRENCY, 0))
        if slots > 0:
            release = await fleet_slot(
                self.store, self.key, slots, lease_s=self._lease_s, wait_s=max_wait_s, lane=lane
            )
        else:
            (self._adaptive.open if self._limits() or self._learnt else self._adaptive.close)()
            release = await self._adaptive.slot(max_wait_s, lane)
        if release is None:
            reason = f"all slots of {self.key} for requests are taken"
            raise EmbedderBusy(seconds=LEAST_BUSY_S, reason=reason)
        return release

    async def _reserve(self, asks: Asks) -> tuple[Reservation, Amounts] | None:
        """What comes soon, and what it was reserved for; asked again when the free time is near.
        None where somebody interactive should go first.
        """
        costs, deadline, near_since = asks.costs, asks.deadline, _now()
        while True:
            ahead_s = asks.ahead_s(_now() - near_since)
            if handed_over := self._queue.take_over(costs, _now(), deadline):
                reservation, reserved, due = handed_over
                return replace(reservation, wait_s=max(SHORTEST_REST_S, due - _now())), reserved
            asking = asyncio.ensure_future(
                self.store.reserve(
                    self.key,
                    costs,
                    quotas=self.quotas,
                    stated=self._stated,
                    target=self._target,
                    max_wait_s=min(ahead_s, max(0.0, deadline - _now())),
                )
            )
            answer = await self._uninterrupted(asking, costs)
            if isinstance(answer, Stop):
                raise _stopped_elsewhere()
            if isinstance(answer, Reservation):
                self._note(answer)
                if answer.is_limited:
                    self._adaptive.open()
                return answer, costs
            self._queue.head_due = _now() + answer.wait_s
            near_since = near_since if asks.is_near(answer.wait_s) else _now()
            self._check_wait(answer.wait_s, asks)
            if not self._queue.is_wanted:
                await self._queue.rest(asks.rest_s(answer.wait_s, ahead_s))
            if self._queue.is_wanted:
                return None

    async def _uninterrupted(
        self, asking: asyncio.Future[Reservation | WaitTooLong | Stop], costs: Amounts
    ) -> Reservation | WaitTooLong | Stop:
        """The store's answer. Who is called off meanwhile gives back what it reserved."""
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            answer = await asking
            if isinstance(answer, Reservation):
                sent = answer.wait_s <= 0
                await self.store.refund(self.key, answer, costs, sent=sent)
            raise

    async def _wait_for(self, reservation: Reservation, costs: Amounts) -> Reservation | None:
        """The reservation once its time has come; None if the store does not know it any more."""
        while reservation.wait_s > 0:
            due = _now() + reservation.wait_s
            try:
                await self._queue.sleep(reservation, reservation.wait_s)
            except asyncio.CancelledError:
                if not self._queue.hand_over(reservation, costs, due):
                    await self._withdraw(reservation, costs)
                raise
            try:
                answer = await self.store.confirm(self.key, reservation, costs)
            except asyncio.CancelledError:
                await self._withdraw(reservation, costs)
                raise
            if isinstance(answer, Stop):
                raise _stopped_elsewhere()
            if answer is None:
                return None
            reservation = answer
        return reservation

    async def _withdraw(self, reservation: Reservation, costs: Amounts) -> None:
        """Give a reservation back, also where the caller is being called off."""
        await asyncio.shield(self.store.refund(self.key, reservation, costs, sent=False))

    def _check_wait(self, wait_s: float, asks: Asks) -> None:
        if wait_s > max(0.0, asks.deadline - _now()):
            # Back while others still wait, so that the rate is never left unused.
            raise self._busy(max(LEAST_BUSY_S, wait_s - asks.max_wait_s / 2))

    def _busy(self, seconds: float) -> EmbedderBusy:
        return EmbedderBusy(seconds=seconds, reason=f"the rate limit of {self.key}")

    def _rates(self) -> dict[str, float]:
        """What is known of the limits, per second."""
        known = {name: limit * self._target for name, limit in self._limits().items()}
        return {name: limit / 60.0 for name, limit in {**self._learnt, **known}.items()}

    def _limits(self) -> dict[str, float]:
        """The limits that are set or stated, per minute."""
        quotas = {name: quota for name, quota in self.quotas.items() if name != CONCURRENCY}
        return all_in_force(quotas, self._stated)

    async def _look(self) -> ClockState:
        state = await self.store.clock_state(self.key)
        self._note(state)
        return state

    def _note(self, found: Reservation | ClockState) -> None:
        self._stated.update(found.stated)
        self._learnt, self._largest = found.learnt, found.largest
        self._looked_at = _now()


class Admission:
    """The right to send one request now. The first call that ends it counts."""

    def __init__(
        self, limiter: Limiter, reservation: Reservation, costs: Amounts, release: Release
    ) -> None:
        self.reservation = reservation
        self._limiter = limiter
        self._costs = costs
        self._release = release
        self._is_over = False

    async def settle(
        self, actual: Amounts | None = None, reading: Reading | None = None, *, timed: bool = True
    ) -> None:
        """The request was answered; `actual` corrects what had been reserved for it.

        `timed` is false where the time that it took does not tell how fast the provider embeds.
        """
        if not self._ends():
            return
        limiter = self._limiter
        delta = {
            name: amount - self._costs[name]
            for name, amount in (actual or {}).items()
            if name in self._costs and amount != self._costs[name]
        }
        believed = limiter.learn(reading)
        try:
            costs = {**self._costs, **(actual or {})} if timed else NOTHING
            await limiter.store.settle(limiter.key, self.reservation, delta, believed, costs)
        finally:
            await self._leave(answered=True if timed else None)

    async def rate_limited(
        self, retry_after_s: float | None = None, reading: Reading | None = None
    ) -> None:
        """The provider answered 429: the whole fleet waits, this request asks again."""
        if not self._ends():
            return
        limiter = self._limiter
        pause = wait_after_429(self._costs, retry_after_s, reading)
        asked = f", asking for {pause:.2f} s" if pause >= 0 else ""
        penalty = Penalty(
            pause_s=pause,
            jitter=random.random(),  # noqa: S311 - to spread requests, not to guard anything
            why=f"the provider answered 429{asked}",
            by=limiter.by,
            about=reading.about if reading else (),
        )
        # Providers count a request that they refuse as one; its tokens they do not.
        refunds = {**self._costs, "requests": 0.0} if "requests" in self._costs else self._costs
        believed = limiter.learn(reading)
        try:
            await limiter.store.penalize(limiter.key, self.reservation, refunds, believed, penalty)
            await limiter.look(at_once=True)
        finally:
            await self._leave(answered=False)

    async def withdraw(self) -> None:
        """It is not sent after all: its time is somebody else's."""
        if self._ends():
            limiter = self._limiter
            try:
                await limiter.store.refund(limiter.key, self.reservation, self._costs, sent=True)
            finally:
                await self._leave(answered=None)

    async def failed(self) -> None:
        """No usable answer came: a fault of the server, a time-out, a lost connection."""
        if self._ends():
            # It may well have been counted: what was reserved for it stays spent.
            await self._leave(answered=False)

    def _ends(self) -> bool:
        """Whether this is the first end."""
        is_first, self._is_over = not self._is_over, True
        return is_first

    async def _leave(self, *, answered: bool | None) -> None:
        await self._release(answered=answered, size=self._costs.get("tokens", 1.0))


def _stopped_elsewhere() -> EmbedderBusy:
    """Nothing of what others wrote to Redis goes on: it is no reason to pause a model."""
    reason = "another process was refused by the provider a moment ago"
    return EmbedderBusy(seconds=STOP_S, reason=reason)


def _now() -> float:
    return asyncio.get_running_loop().time()

"""A store that goes on while Redis is away: a share of every limit, from memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence

from embedfleet_schema.breaker import Breaker
from embedfleet_schema.turns import Lane
from embedfleet_workers.embedding_errors import StoreAway
from embedfleet_workers.rate_limits.quota import NOTHING, Amounts, LimitKey, Reading
from embedfleet_workers.rate_limits.stores.limit_store import (
    ClockState,
    LimitStore,
    Penalty,
    Reservation,
    Snapshot,
    WaitTooLong,
)
from embedfleet_workers.rate_limits.stores.memory_store import MemoryStore
from embedfleet_workers.stop import Stop

log = logging.getLogger(__name__)

# After a failure the store is left alone this long; then one call looks whether it is back.
PAUSE_S = 1.0
# For so long after its return the store knows only a part of the fleet's own use.
BLIND_S = 60.0


class FallbackStore:
    """The store of the fleet where it answers, else memory with 1/`share` of every limit.

    A reservation belongs to the store that gave it. One of memory's is lost as soon as the fleet's
    store is back, so that the two do not add up; its caller reserves anew.

    Each method asks the fleet's store inside `_trying`, and memory where that left its block.
    """

    def __init__(self, fleet: LimitStore, share: Callable[[], int]) -> None:
        self._fleet = fleet
        self._share = share
        self._own = MemoryStore()
        self._breaker = Breaker(PAUSE_S, clock=lambda: asyncio.get_running_loop().time())
        self._blind_until = 0.0
        # Slots that the fleet's store gave, with the time at which it takes them back by itself;
        # and those of them that were given back while it was away: it may still count them.
        self._given: dict[tuple[LimitKey, str], float] = {}
        self._owed: dict[tuple[LimitKey, str], tuple[int, float]] = {}
        self._paying: asyncio.Task[None] | None = None

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
        share = max(1, self._share())
        if self._breaker.admits():
            with self._trying():
                return await self._fleet.reserve(
                    key, costs, quotas=quotas, stated=stated, target=target, max_wait_s=max_wait_s
                )
        target /= share
        return await self._own.reserve(
            key, costs, quotas=quotas, stated=stated, target=target, max_wait_s=max_wait_s
        )

    async def confirm(
        self, key: LimitKey, reservation: Reservation, costs: Amounts
    ) -> Reservation | Stop | None:
        if self._own.knows(key, reservation):
            # Does the fleet's store answer again? Then memory's reservation is void.
            await self.clock_state(key)
            if self._breaker.is_open:
                return await self._own.confirm(key, reservation, costs)
        elif self._breaker.admits():
            with self._trying():
                return await self._fleet.confirm(key, reservation, costs)
        return None

    async def refund(
        self, key: LimitKey, reservation: Reservation, costs: Amounts, *, sent: bool
    ) -> None:
        if self._breaker.admits():
            with self._trying():
                return await self._fleet.refund(key, reservation, costs, sent=sent)
        return await self._own.refund(key, reservation, costs, sent=sent)

    async def settle(
        self,
        key: LimitKey,
        reservation: Reservation,
        delta: Amounts,
        reading: Reading,
        costs: Amounts = NOTHING,
    ) -> None:
        believed = self._believed(reading)
        if self._breaker.admits():
            with self._trying():
                return await self._fleet.settle(key, reservation, delta, believed, costs)
        limits = reading.without_remaining()
        return await self._own.settle(key, reservation, delta, limits, costs)

    async def penalize(
        self,
        key: LimitKey,
        reservation: Reservation,
        refunds: Amounts,
        reading: Reading,
        penalty: Penalty,
    ) -> float:
        believed = self._believed(reading)
        if self._breaker.admits():
            with self._trying():
                return await self._fleet.penalize(key, reservation, refunds, believed, penalty)
        limits = reading.without_remaining()
        return await self._own.penalize(key, reservation, refunds, limits, penalty)

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
        own = max(1, slots // max(1, self._share()))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while True:
            left_s = max(0.0, deadline - loop.time())
            if self._breaker.admits():
                with self._trying():
                    taken = await self._fleet.acquire(
                        key, holder, slots=slots, lease_s=lease_s, wait_s=left_s, lane=lane
                    )
                    if taken:
                        self._given[key, holder] = loop.time() + lease_s
                    return taken
            left_s = max(0.0, deadline - loop.time())
            # Memory's slots are void while one waits for them: the fleet's are back.
            with contextlib.suppress(StoreAway):
                return await self._own.acquire(
                    key, holder, slots=own, lease_s=lease_s, wait_s=left_s, lane=lane
                )

    async def release(self, key: LimitKey, holder: str, *, slots: int) -> None:
        own = max(1, slots // max(1, self._share()))
        await self._own.release(key, holder, slots=own)
        expires = self._given.pop((key, holder), None)
        if self._breaker.admits():
            with self._trying():
                return await self._fleet.release(key, holder, slots=slots)
        if expires is not None:
            self._owed[key, holder] = slots, expires
        return None

    async def stop(self, key: LimitKey, stop: Stop, by: str) -> None:
        if self._breaker.admits():
            with self._trying():
                return await self._fleet.stop(key, stop, by)
        return await self._own.stop(key, stop, by)

    async def resume(self, key: LimitKey) -> None:
        await self._own.resume(key)
        if self._breaker.admits():
            with self._trying():
                await self._fleet.resume(key)

    async def clock_state(self, key: LimitKey) -> ClockState:
        if self._breaker.admits():
            with self._trying():
                return await self._fleet.clock_state(key)
        return await self._own.clock_state(key)

    async def snapshot(self, key: LimitKey) -> Snapshot | None:
        if self._breaker.admits():
            with self._trying():
                return await self._fleet.snapshot(key)
        return await self._own.snapshot(key)

    async def keys(self) -> Sequence[LimitKey]:
        if self._breaker.admits():
            with self._trying():
                return await self._fleet.keys()
        return await self._own.keys()

    async def close(self) -> None:
        if self._paying is not None:
            self._paying.cancel()
        await self._fleet.close()

    @contextlib.contextmanager
    def _trying(self) -> Iterator[None]:
        """Inside, the fleet's store is asked; if it is away, the block is left without an error."""
        try:
            yield
        except StoreAway as error:
            if self._breaker.open():
                log.warning("the limiter goes on with 1/%d from memory: %s", self._share(), error)
        else:
            if self._breaker.close():
                self._rejoin()

    def _rejoin(self) -> None:
        self._blind_until = asyncio.get_running_loop().time() + BLIND_S
        log.warning("the limiter is back on Redis")
        self._own.forget()
        self._paying = asyncio.create_task(self._give_back())

    def _believed(self, reading: Reading) -> Reading:
        """What headers said; of what is left nothing while nobody wrote down all of our own use:
        what is missing was mostly used by the other processes, and each keeps to its share.
        """
        is_blind = asyncio.get_running_loop().time() < self._blind_until
        return reading.without_remaining() if is_blind else reading

    async def _give_back(self) -> None:
        """Release what could not be released in the meantime; what fails again has its lease."""
        owed, self._owed = self._owed, {}
        now = asyncio.get_running_loop().time()
        with contextlib.suppress(StoreAway):
            for (key, holder), (slots, expires) in owed.items():
                if now < expires:
                    await self._fleet.release(key, holder, slots=slots)

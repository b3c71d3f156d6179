"""A store that goes on while Redis is away: a share of every limit, from memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from embedfleet_schema.breaker import Breaker
from embedfleet_workers.rate_limits.quota import Amounts, LimitKey
from embedfleet_workers.rate_limits.stores.limit_store import (
    ClockState,
    Cost,
    LimitStore,
    Lost,
    Penalty,
    Reading,
    Reservation,
    Snapshot,
    StoreAway,
    Ticket,
    WaitTooLong,
)
from embedfleet_workers.rate_limits.stores.memory_store import MemoryStore
from embedfleet_workers.stop import Stop

log = logging.getLogger(__name__)

# After a failure the store is left alone this long; then one call looks whether it is back.
PAUSE_S = 1.0
# For so long after its return the store knows only a part of the fleet's own use.
BLIND_S = 60.0

Answer = TypeVar("Answer")
Question = Callable[[LimitStore], Awaitable[Answer]]


class FallbackStore:
    """The store of the fleet where it answers, else memory with 1/`share` of every limit.

    A turn belongs to the store that gave it. One of memory's is lost as soon as the fleet's store
    is back, so that the two do not add up; its caller reserves anew.
    """

    def __init__(self, fleet: LimitStore, share: Callable[[], int]) -> None:
        self._fleet = fleet
        self._share = share
        self._own = MemoryStore()
        self._breaker = Breaker(PAUSE_S, clock=lambda: asyncio.get_running_loop().time())
        self._blind_until = 0.0
        # Places that the fleet's store gave, with the time at which it takes them back by itself;
        # and those of them that were given back while it was away: it may still count them.
        self._given: dict[tuple[LimitKey, str], float] = {}
        self._owed: dict[tuple[LimitKey, str], tuple[int, float]] = {}
        self._paying: asyncio.Task[None] | None = None

    async def reserve(
        self, key: LimitKey, costs: Mapping[str, Cost], *, target: float, max_wait_s: float
    ) -> Reservation | WaitTooLong | Stop:
        share = max(1, self._share())
        return await self._either(
            lambda store: store.reserve(key, costs, target=target, max_wait_s=max_wait_s),
            lambda own: own.reserve(key, costs, target=target / share, max_wait_s=max_wait_s),
        )

    async def confirm(
        self, key: LimitKey, ticket: Ticket, costs: Amounts
    ) -> Reservation | Lost | Stop:
        async def lost(_: LimitStore) -> Reservation | Lost | Stop:
            return Lost()

        if not self._own.knows(key, ticket):
            return await self._either(lambda store: store.confirm(key, ticket, costs), lost)
        # Does the fleet's store answer again? Then memory's turn is void.
        await self.clock_state(key)
        return await self._own.confirm(key, ticket, costs) if self._breaker.is_open else Lost()

    async def refund(self, key: LimitKey, ticket: Ticket, costs: Amounts, *, sent: bool) -> None:
        await self._either(lambda store: store.refund(key, ticket, costs, sent=sent))

    async def settle(
        self, key: LimitKey, turn: Reservation, delta: Amounts, readings: Mapping[str, Reading]
    ) -> None:
        readings = self._believed(readings)
        await self._either(
            lambda store: store.settle(key, turn, delta, readings),
            lambda own: own.settle(key, turn, delta, _blind(readings)),
        )

    async def penalize(
        self,
        key: LimitKey,
        turn: Reservation,
        refunds: Amounts,
        readings: Mapping[str, Reading],
        penalty: Penalty,
    ) -> float:
        readings = self._believed(readings)
        return await self._either(
            lambda store: store.penalize(key, turn, refunds, readings, penalty),
            lambda own: own.penalize(key, turn, refunds, _blind(readings), penalty),
        )

    async def acquire(
        self, key: LimitKey, ticket: str, *, slots: int, lease_s: float, wait_s: float
    ) -> bool:
        own = max(1, slots // max(1, self._share()))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s

        def asked(store: LimitStore, slots: int) -> Awaitable[bool]:
            left_s = max(0.0, deadline - loop.time())
            return store.acquire(key, ticket, slots=slots, lease_s=lease_s, wait_s=left_s)

        async def of_the_fleet(store: LimitStore) -> bool:
            if taken := await asked(store, slots):
                self._given[key, ticket] = loop.time() + lease_s
            return taken

        while True:
            with contextlib.suppress(StoreAway):
                return await self._either(of_the_fleet, lambda store: asked(store, own))
            # Memory's slots are void while one waits for them: the fleet's are back.

    async def release(self, key: LimitKey, ticket: str, *, slots: int) -> None:
        own = max(1, slots // max(1, self._share()))
        await self._own.release(key, ticket, slots=own)

        expires = self._given.pop((key, ticket), None)

        async def owed(_: LimitStore) -> None:
            if expires is not None:
                self._owed[key, ticket] = slots, expires

        await self._either(lambda store: store.release(key, ticket, slots=slots), owed)

    async def stop(self, key: LimitKey, stop: Stop, by: str) -> None:
        await self._either(lambda store: store.stop(key, stop, by))

    async def resume(self, key: LimitKey) -> None:
        await self._own.resume(key)
        await self._either(lambda store: store.resume(key))

    async def clock_state(self, key: LimitKey) -> ClockState:
        return await self._either(lambda store: store.clock_state(key))

    async def snapshot(self, key: LimitKey) -> Snapshot | None:
        return await self._either(lambda store: store.snapshot(key))

    async def keys(self) -> Sequence[LimitKey]:
        return await self._either(lambda store: store.keys())

    async def close(self) -> None:
        if self._paying is not None:
            self._paying.cancel()
        await self._fleet.close()

    async def _either(
        self, ask: Question[Answer], instead: Question[Answer] | None = None
    ) -> Answer:
        # Others go on with memory while one call finds out.
        if self._breaker.admits():
            try:
                answer = await ask(self._fleet)
            except StoreAway as error:
                if self._breaker.open():
                    log.warning(
                        "the limiter goes on with 1/%d from memory: %s", self._share(), error
                    )
            else:
                if self._breaker.close():
                    self._rejoin()
                return answer
        return await (instead or ask)(self._own)

    def _rejoin(self) -> None:
        self._blind_until = asyncio.get_running_loop().time() + BLIND_S
        log.warning("the limiter is back on Redis")
        self._own.forget()
        self._paying = asyncio.create_task(self._give_back())

    def _believed(self, readings: Mapping[str, Reading]) -> Mapping[str, Reading]:
        """What headers said, without what they would make of our own use that nobody wrote down."""
        return (
            _blind(readings) if asyncio.get_running_loop().time() < self._blind_until else readings
        )

    async def _give_back(self) -> None:
        """Release what could not be released in the meantime; what fails again has its lease."""
        owed, self._owed = self._owed, {}
        now = asyncio.get_running_loop().time()
        with contextlib.suppress(StoreAway):
            for (key, ticket), (slots, expires) in owed.items():
                if now < expires:
                    await self._fleet.release(key, ticket, slots=slots)


def _blind(readings: Mapping[str, Reading]) -> Mapping[str, Reading]:
    """The limits, and nothing of what is left of them: most of what is missing was used by the
    other processes of the fleet, and each keeps to its share.
    """
    return {name: Reading(reading.limit) for name, reading in readings.items()}

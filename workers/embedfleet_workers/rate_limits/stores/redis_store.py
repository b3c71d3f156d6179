"""The limiter's state in Redis or Valkey: one hash per limit, one script, one round trip a step."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from embedfleet_schema.broker import KEY_PREFIX
from embedfleet_workers.rate_limits.quota import Amounts, LimitKey
from embedfleet_workers.rate_limits.stores.gcra import SECOND
from embedfleet_workers.rate_limits.stores.limit_store import (
    ClockState,
    Cost,
    Lost,
    Penalty,
    Reading,
    Reservation,
    Snapshot,
    StoreAway,
    Ticket,
    WaitTooLong,
)
from embedfleet_workers.rate_limits.stores.redis_script import RedisScript, told
from embedfleet_workers.rate_limits.stores.redis_snapshot import snapshot_of, word
from embedfleet_workers.stop import Stop

if TYPE_CHECKING:
    from redis.asyncio import Redis

PREFIX = f"{KEY_PREFIX}limit:"
SCRIPT = files("embedfleet_workers.rate_limits.stores").joinpath("gcra.lua").read_text()
# Who waits for a slot says this often that it still lives.
HEARD_S = 1.0

Words = Sequence[tuple[str, float, float, float]]


class RedisStore:
    """State that the whole fleet sees, by the server's clock. For one event loop.

    Args:
        url: where Redis is.
        clock: seconds; only tests bring one, all others go by the server's.
    """

    def __init__(self, url: str, clock: Callable[[], float] | None = None) -> None:
        self._script = RedisScript(url, SCRIPT)
        self._clock = clock
        self._name, self._asked = uuid4().hex, 0
        # Of each process one waits in Redis for a slot, the others wait for it to be next.
        self._heads: defaultdict[LimitKey, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def reserve(
        self, key: LimitKey, costs: Mapping[str, Cost], *, target: float, max_wait_s: float
    ) -> Reservation | WaitTooLong | Stop:
        words = [(name, ask.cost, ask.quota, ask.seen) for name, ask in costs.items()]
        answer = await self._ask("reserve", key, target, max_wait_s, words=words)
        if isinstance(answer, list):
            return (
                _stopped(answer) if answer[0] == b"stop" else WaitTooLong(float(answer[1]) / SECOND)
            )
        _, wait, at, epoch, now, limited, *seen = answer.split()
        known = zip(costs, map(float, seen), strict=True)
        return Reservation(
            Ticket(epoch.decode(), float(at)),
            float(wait) / SECOND,
            float(now),
            limited=limited == b"1",
            seen={name: limit for name, limit in known if limit > 0},
        )

    async def confirm(
        self, key: LimitKey, ticket: Ticket, costs: Amounts
    ) -> Reservation | Lost | Stop:
        answer = await self._ask("confirm", key, ticket.epoch, ticket.tat, words=_plain(costs))
        if answer[0] == b"lost":
            return Lost()
        if answer[0] == b"stop":
            return _stopped(answer)
        return Reservation(ticket, float(answer[1]) / SECOND, float(answer[2]))

    async def refund(self, key: LimitKey, ticket: Ticket, costs: Amounts, *, sent: bool) -> None:
        told = (ticket.epoch, ticket.tat, int(sent))
        await self._ask("refund", key, *told, words=_plain(costs))

    async def settle(
        self, key: LimitKey, turn: Reservation, delta: Amounts, readings: Mapping[str, Reading]
    ) -> None:
        refunds = {name: -amount for name, amount in delta.items()}
        words = _with_readings(refunds, readings)
        await self._ask("settle", key, turn.ticket.epoch, turn.now, words=words)

    async def penalize(
        self,
        key: LimitKey,
        turn: Reservation,
        refunds: Amounts,
        readings: Mapping[str, Reading],
        penalty: Penalty,
    ) -> float:
        told = (penalty.pause_s, penalty.jitter, penalty.why, penalty.by)
        words = _with_readings(refunds, readings)
        answer = await self._ask("penalize", key, turn.ticket.epoch, turn.now, *told, words=words)
        return float(answer[1]) / SECOND

    async def acquire(
        self, key: LimitKey, ticket: str, *, slots: int, lease_s: float, wait_s: float
    ) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        head = self._heads[key]
        try:
            async with asyncio.timeout(wait_s):
                await head.acquire()
        except TimeoutError:
            return False
        taken = False
        try:
            while not taken:
                answer = await self._ask("acquire", key, ticket, slots, lease_s * SECOND)
                taken = answer[0] == b"in"
                left = deadline - loop.time()
                if taken or left <= 0:
                    break
                await self._script.wake(f"{PREFIX}{key}:wake:{ticket}", min(HEARD_S, left))
        finally:
            head.release()
            if not taken:
                await asyncio.shield(self.release(key, ticket, slots=slots))
        return taken

    async def release(self, key: LimitKey, ticket: str, *, slots: int) -> None:
        await self._ask("release", key, ticket, slots)

    async def stop(self, key: LimitKey, stop: Stop, by: str) -> None:
        await self._ask("stop", key, stop.code, stop.reason, by)

    async def resume(self, key: LimitKey) -> None:
        await self._ask("resume", key)

    async def clock_state(self, key: LimitKey) -> ClockState:
        epoch, clock, speed, paused, *stop = await self._ask("clock_state", key)
        stopped = _stopped(stop) if stop else None
        return ClockState(epoch.decode(), float(clock), float(speed), float(paused), stopped)

    async def snapshot(self, key: LimitKey) -> Snapshot | None:
        answer = await self._ask("snapshot", key)
        return snapshot_of(answer) if answer else None

    async def keys(self) -> Sequence[LimitKey]:
        return [key async for key in self._keys(self._script.client)]

    async def close(self) -> None:
        await self._script.close()

    async def _keys(self, client: Redis) -> Any:  # noqa: ANN401 - an async generator of keys
        from redis.exceptions import RedisError

        try:
            async for name in client.scan_iter(match=f"{PREFIX}*", count=1_000, _type="hash"):
                names = word(name).removeprefix(PREFIX).split("/", 2)
                # What is named otherwise is not ours.
                if len(names) == len(fields(LimitKey)) and not names[-1].endswith(":use"):
                    yield LimitKey(*names)
        except (RedisError, OSError) as error:
            raise StoreAway(told(error)) from error

    async def _ask(self, op: str, key: LimitKey, *told: object, words: Words = ()) -> Any:  # noqa: ANN401
        now = "" if self._clock is None else repr(self._clock() * SECOND)
        flat = (word for dimension in words for word in dimension)
        # A state that is not there yet gets the name of the call that made it.
        self._asked += 1
        name = f"{self._name}.{self._asked}"
        return await self._script.call(
            f"{PREFIX}{key}", (op, now, name, *_texts(told), *_texts(flat))
        )


def _texts(values: Iterable[object]) -> list[str]:
    """Numbers in full precision: Redis would round them its own way."""
    return [repr(value) if isinstance(value, float) else str(value) for value in values]


def _plain(amounts: Amounts) -> Words:
    return [(name, amount, 0, 0) for name, amount in amounts.items()]


def _with_readings(amounts: Amounts, readings: Mapping[str, Reading]) -> Words:
    nothing = Reading(0.0)
    seen = {name: readings.get(name, nothing) for name in {**amounts, **readings}}
    return [
        (name, amounts.get(name, 0.0), reading.limit, reading.missing)
        for name, reading in seen.items()
    ]


def _stopped(answer: Sequence[bytes]) -> Stop:
    return Stop(word(answer[1]), word(answer[2]))

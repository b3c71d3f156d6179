"""The limiter's state in Redis or Valkey: one hash per limit, one script, one round trip a step."""

from __future__ import annotations

import asyncio
import struct
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from embedfleet_schema.redis_url import parse_redis_url
from embedfleet_schema.turns import Lane
from embedfleet_workers.embedding_errors import StoreAway
from embedfleet_workers.rate_limits.quota import COUNTED, NOTHING, Amounts, LimitKey, Reading
from embedfleet_workers.rate_limits.stores import gcra_script
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
from embedfleet_workers.rate_limits.stores.redis_script import RedisScript, told
from embedfleet_workers.stop import Stop

if TYPE_CHECKING:
    from redis.asyncio import Redis

# What the script needs for slots, beside the state itself.
OF_SLOTS = (":taken", ":queue", ":heard")
MOST_BYTES = 500
_WORDS_OF_A_DIMENSION = 7
# What a call says of a dimension, beside its name.
GIVEN = struct.Struct("<4d")
# Who waits for a slot says this often that it still lives.
HEARD_S = 1.0

Words = Sequence[tuple[str, float, float, float, float]]


class RedisStore:
    """State that the whole fleet sees, by the server's clock. For one event loop.

    Args:
        url: where Redis is.
        clock: seconds; only tests bring one, all others go by the server's.
    """

    def __init__(self, url: str, clock: Callable[[], float] | None = None) -> None:
        self._script = RedisScript(url, gcra_script.script())
        self._prefix = f"{parse_redis_url(url).key_prefix}limit:"
        self._clock = clock
        self._name, self._count = uuid4().hex, 0
        # Of each process one of a lane waits in Redis for a slot, the others for it to be next.
        self._heads: defaultdict[tuple[LimitKey, Lane], asyncio.Lock] = defaultdict(asyncio.Lock)

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
        words = [
            (name, cost, quotas.get(name, 0.0), stated.get(name, 0.0), 0.0)
            for name, cost in costs.items()
        ]
        answer = await self._asked("reserve", key, target, max_wait_s, words=words)
        if isinstance(answer, list):
            return (
                _stopped(answer) if answer[0] == b"stop" else WaitTooLong(float(answer[1]) / SECOND)
            )
        numbers = struct.Struct(f"<{5 + 2 * len(costs)}d")
        wait, tat, now, is_limited, largest, *known = numbers.unpack_from(answer)
        return Reservation(
            answer[numbers.size :].decode(),
            tat,
            wait / SECOND,
            now,
            is_limited=bool(is_limited),
            stated=_by_name(costs, known[::2]),
            learnt=_by_name(costs, known[1::2]),
            largest=largest,
        )

    async def confirm(
        self, key: LimitKey, reservation: Reservation, costs: Amounts
    ) -> Reservation | Stop | None:
        epoch, tat = reservation.epoch, reservation.tat
        answer = await self._asked("confirm", key, epoch, tat, words=_plain(costs))
        if answer[0] == b"lost":
            return None
        if answer[0] == b"stop":
            return _stopped(answer)
        return Reservation(epoch, tat, float(answer[1]) / SECOND, float(answer[2]))

    async def refund(
        self, key: LimitKey, reservation: Reservation, costs: Amounts, *, sent: bool
    ) -> None:
        told = (reservation.epoch, reservation.tat, int(sent))
        await self._asked("refund", key, *told, words=_plain(costs))

    async def settle(
        self,
        key: LimitKey,
        reservation: Reservation,
        delta: Amounts,
        reading: Reading,
        costs: Amounts = NOTHING,
    ) -> None:
        refunds = {name: -amount for name, amount in delta.items()}
        told = (reservation.epoch, reservation.answered_at)
        await self._asked("settle", key, *told, words=_with_reading(refunds, reading, costs))

    async def penalize(
        self,
        key: LimitKey,
        reservation: Reservation,
        refunds: Amounts,
        reading: Reading,
        penalty: Penalty,
    ) -> float:
        told = (penalty.pause_s, penalty.jitter, penalty.why, penalty.by)
        about = {name: 1.0 for name in penalty.about if name in refunds}
        words = _with_reading(refunds, reading, about)
        epoch, admitted_at = reservation.epoch, reservation.answered_at
        answer = await self._asked("penalize", key, epoch, admitted_at, *told, words=words)
        return float(answer[1]) / SECOND

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
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        head = self._heads[key, lane]
        try:
            async with asyncio.timeout(wait_s):
                await head.acquire()
        except TimeoutError:
            return False
        taken = False
        try:
            while not taken:
                told = (holder, slots, lease_s * SECOND, head_start_s(lane) * SECOND)
                answer = await self._asked("acquire", key, *told, keys=OF_SLOTS)
                taken = answer[0] == b"in"
                left = deadline - loop.time()
                if taken or left <= 0:
                    break
                await self._script.wake(f"{self._prefix}{key}:wake:{holder}", min(HEARD_S, left))
        finally:
            head.release()
            if not taken:
                await asyncio.shield(self.release(key, holder, slots=slots))
        return taken

    async def release(self, key: LimitKey, holder: str, *, slots: int) -> None:
        await self._asked("release", key, holder, slots, keys=OF_SLOTS)

    async def stop(self, key: LimitKey, stop: Stop, by: str) -> None:
        await self._asked("stop", key, stop.code, stop.reason, by)

    async def resume(self, key: LimitKey) -> None:
        await self._asked("resume", key)

    async def clock_state(self, key: LimitKey) -> ClockState:
        names = _plain(dict.fromkeys(COUNTED, 0.0))
        answer = await self._asked("clock_state", key, words=names)
        epoch, clock, speed, paused, largest, known, *stop = answer
        limits = known.split()
        return ClockState(
            epoch.decode(),
            float(clock),
            float(speed),
            float(paused),
            _stopped(stop) if stop else None,
            stated=_by_name(COUNTED, map(float, limits[::2])),
            learnt=_by_name(COUNTED, map(float, limits[1::2])),
            largest=float(largest),
        )

    async def snapshot(self, key: LimitKey) -> Snapshot | None:
        answer = await self._asked("snapshot", key, keys=OF_SLOTS)
        return _snapshot(answer) if answer else None

    async def keys(self) -> Sequence[LimitKey]:
        return [key async for key in self._keys(self._script.client)]

    async def close(self) -> None:
        await self._script.close()

    async def _keys(self, client: Redis) -> Any:  # noqa: ANN401 - an async generator of keys
        from redis.exceptions import RedisError

        try:
            async for name in client.scan_iter(match=f"{self._prefix}*", count=1_000, _type="hash"):
                names = _word(name).removeprefix(self._prefix).split("/", 2)
                # What is named otherwise is not ours.
                if len(names) == len(fields(LimitKey)):
                    yield LimitKey(*names)
        except (RedisError, OSError) as error:
            raise StoreAway(told(error)) from error

    def _asked(
        self,
        operation: str,
        key: LimitKey,
        *told: object,
        words: Words = (),
        keys: Sequence[str] = (),
    ) -> Awaitable[Any]:
        """The script's answer; one call travels with all that are made at the same time.

        `keys` are the ends of those that the operation needs beside the state.
        """
        now = "" if self._clock is None else repr(self._clock() * SECOND)
        given = (word for name, *amounts in words for word in (name, GIVEN.pack(*amounts)))
        # A state that is not there yet gets the name of the call that made it.
        self._count += 1
        name = f"{self._name}.{self._count}"
        told_words = (operation, now, name, *_texts(told), *given)
        state = f"{self._prefix}{key}"
        return self._script.call((state, *(f"{state}{end}" for end in keys)), told_words)


def _texts(values: Iterable[object]) -> list[str]:
    """Numbers in full precision: Redis would round them its own way."""
    return [repr(value) if isinstance(value, float) else str(value) for value in values]


def _plain(amounts: Amounts) -> Words:
    return [(name, amount, 0, 0, 0) for name, amount in amounts.items()]


def _by_name(names: Iterable[str], amounts: Iterable[float]) -> dict[str, float]:
    """Those that are more than 0."""
    return {name: limit for name, limit in zip(names, amounts) if limit > 0}  # noqa: B905 - none at all of an empty state


def _with_reading(amounts: Amounts, reading: Reading, costs: Amounts = NOTHING) -> Words:
    return [
        (
            name,
            amounts.get(name, 0.0),
            reading.limits.get(name, 0.0),
            reading.used(name) if name in reading.limits else -1.0,
            costs.get(name, 0.0),
        )
        for name in {**amounts, **reading.limits, **costs}
    ]


def _stopped(answer: Sequence[bytes]) -> Stop:
    return Stop(_word(answer[1]), _word(answer[2]))


def _snapshot(answer: Sequence[Any]) -> Snapshot:
    """What the script's `snapshot` says, in words."""
    (paused, why, by, slowed_to, in_flight, waiting), stop, dimensions = (
        answer[:6],
        answer[6:10],
        answer[11:],
    )
    stopped, code, reason, stopped_by = map(_word, stop)
    return Snapshot(
        dict(
            _dimension(*dimensions[at : at + _WORDS_OF_A_DIMENSION])
            for at in range(0, len(dimensions), _WORDS_OF_A_DIMENSION)
        ),
        paused_s=float(paused) / SECOND,
        paused_why=_word(why),
        paused_by=_word(by),
        slowed_to=float(slowed_to),
        in_flight=int(in_flight),
        waiting=int(waiting),
        stopped=Stop(code, reason) if stopped else None,
        stopped_by=stopped_by,
        largest=float(answer[10]),
    )


def _dimension(
    name: bytes,
    stated: bytes,
    rate: bytes,
    used: bytes,
    ahead: bytes,
    foreign: bytes,
    learnt: bytes,
) -> tuple[str, DimensionState]:
    return _word(name), DimensionState(
        stated=float(stated),
        effective=float(rate),
        used=float(used),
        ahead_s=float(ahead) / SECOND,
        foreign=float(foreign),
        learnt=float(learnt),
    )


def _word(text: bytes) -> str:
    """What stands in Redis, as far as a person may see it: anybody may have written it."""
    shown = text[:MOST_BYTES].decode(errors="replace")
    return "".join(each if each.isprintable() else " " for each in shown)

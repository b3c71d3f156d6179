"""Whatever stands in the limiter's state in Redis, calls go on soon, and within the limits.

Somebody may have written there, or the server's clock was set back. Each number that is read back
is tried, as one that cannot be and as one that could.
"""

import asyncio
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal
from uuid import uuid4

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedfleet_schema.redis_url import PREFIX
from embedfleet_workers.rate_limits.quota import Reading
from embedfleet_workers.rate_limits.stores.gcra import FAR
from embedfleet_workers.rate_limits.stores.gcra_script import PARTS, STATE
from embedfleet_workers.rate_limits.stores.learning import SECOND
from embedfleet_workers.rate_limits.stores.limit_store import STOP_S, Reservation, WaitTooLong
from embedfleet_workers.rate_limits.stores.redis_store import RedisStore
from embedfleet_workers.stop import Stop
from plugins.limiter_reservations import LIMIT, Cost, asked

Known = Literal["set", "stated", "nowhere"]

A_MINUTE = 12.0
COSTS = {"requests": 1.0, "tokens": 100.0}
SECONDS = 200.0
ANSWER_S = 2.0
DAY_S = 86_400.0
# As numbers, and as moments from the time of the poison on, in seconds.
NUMBERS = (math.nan, math.inf, -math.inf, -1e300, -1e17, -1.0, 0.0, 1e-300, 0.5, 1e7, 1e17, 1e300)
LATER = (-1e5, -30.0, 9.0, 61.0, 3_600.0, 1e6)
FIELDS = [("state", name) for name in STATE] + [
    (f"@{dimension}", name) for dimension in COSTS for name in PARTS
]


@dataclass
class Calls:
    """A process that asks as fast as it may, and a provider that answers whatever it gets."""

    url: str
    known: Known
    now: float = 1.7e9
    admitted: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.key = replace(LIMIT, group=uuid4().hex)
        self.store = RedisStore(self.url, lambda: self.now)
        self.client = redis.Redis.from_url(self.url)

    async def go_on(self, seconds: float) -> None:
        until = self.now + seconds
        stated = Reading({"requests": A_MINUTE} if self.known == "stated" else {})
        while self.now < until:
            if (reservation := await self._reserved()) is not None:
                self.admitted.append(self.now)
                self.now += ANSWER_S
                await self.store.settle(self.key, reservation, {}, stated, COSTS)

    async def _reserved(self) -> Reservation | None:
        limits = {
            name: Cost(cost, cost * A_MINUTE * (self.known == "set"))
            for name, cost in COSTS.items()
        }
        answer = await self.store.reserve(self.key, **asked(limits), target=1.0, max_wait_s=2.0)
        while isinstance(answer, Reservation) and answer.wait_s > 0:
            self.now += min(answer.wait_s, 2.0)
            answer = await self.store.confirm(self.key, answer, COSTS)
        if isinstance(answer, WaitTooLong | Stop):
            self.now += 1.0
        return answer if isinstance(answer, Reservation) else None


Poison = Callable[[bytes, float], bytes]


def poisoned(url: str, known: Known, name: str, poison: Poison) -> list[float]:
    """When calls were admitted after it, in seconds."""

    async def main() -> list[float]:
        calls = Calls(url, known)
        try:
            await calls.go_on(30)
            calls.admitted.clear()
            began, place = calls.now, f"{PREFIX}:limit:{calls.key}"
            packed = calls.client.hget(place, name) or b""
            calls.client.hset(place, name, poison(packed, began * SECOND))
            await calls.go_on(SECONDS)
        finally:
            calls.client.close()
            await calls.store.close()
        return [at - began for at in calls.admitted]

    return asyncio.run(main())


def with_number(index: int, number: float, later: float | None) -> Poison:
    def poison(packed: bytes, now: float) -> bytes:
        value = number if later is None else now + later * SECOND
        return packed[: 8 * index] + struct.pack("<d", value) + packed[8 * index + 8 :]

    return poison


def assert_calls_go_on(admitted: list[float], known: Known) -> None:
    gaps = [
        after - before for before, after in zip([0.0, *admitted], [*admitted, SECONDS], strict=True)
    ]
    assert max(gaps) <= FAR / SECOND + 5.0
    if known != "nowhere":
        # A lost state has no credit, and knows nothing of the minute before.
        assert len(admitted) <= A_MINUTE * (SECONDS / 60 + 1) + 2
    # And soon as before.
    assert sum(at >= SECONDS - 60 for at in admitted) >= 0.9 * A_MINUTE


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.sampled_from(FIELDS),
    number=st.sampled_from(NUMBERS) | st.floats(),
    later=st.none() | st.sampled_from(LATER),
    known=st.sampled_from(["set", "stated", "nowhere"]),
)
def test_a_number_that_somebody_wrote_holds_nobody_long(redis_url, place, number, later, known):
    name, which = place
    if which == "starts" and later is not None:
        # A provider may ask for a pause of up to a day.
        later = later if abs(later) > DAY_S else None
    index = (STATE if name == "state" else PARTS).index(which)
    admitted = poisoned(redis_url, known, name, with_number(index, number, later))
    assert_calls_go_on(admitted, known)


@pytest.mark.parametrize("until", [math.nan, math.inf, -math.inf, "in an hour"])
def test_a_stop_that_somebody_wrote_is_over_in_ten_seconds(redis_url, until):
    later = 3_600.0 if until == "in an hour" else None
    poison = with_number(STATE.index("stop_until"), 0.0 if later else until, later)
    assert poisoned(redis_url, "set", "state", poison)[0] <= STOP_S


@pytest.mark.parametrize("name", ["state", "@tokens", "used:tokens"])
@pytest.mark.parametrize("packed", [b"x", b"\xff" * 208, b"\xff" * 160, b"\x7f" * 248])
def test_what_is_no_state_at_all_holds_nobody(redis_url, name, packed):
    assert_calls_go_on(poisoned(redis_url, "stated", name, lambda *_: packed), "stated")


def test_a_slot_that_somebody_took_for_ever_is_free(redis_url):
    async def main() -> bool:
        calls = Calls(redis_url, "set")
        try:
            calls.client.zadd(f"{PREFIX}:limit:{calls.key}:taken", {"nobody": math.inf})
            return await calls.store.acquire(calls.key, "we", slots=1, lease_s=60.0, wait_s=1.0)
        finally:
            calls.client.close()
            await calls.store.close()

    assert asyncio.run(main())


@pytest.mark.parametrize("epoch", [b"\xff\xfe", b"", b"two words", b"x" * 10_000])
def test_a_state_whose_name_is_none_of_ours_is_lost(redis_url, epoch):
    admitted = poisoned(
        redis_url, "set", "state", lambda packed, _: packed[: 8 * len(STATE)] + epoch
    )
    assert_calls_go_on(admitted, "set")

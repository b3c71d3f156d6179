"""What every store of the limiter does, and that all of them give the same answers."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedfleet_schema.turns import Lane
from embedfleet_workers.rate_limits.quota import LimitKey, Reading
from embedfleet_workers.rate_limits.stores.limit_store import (
    ClockState,
    LimitStore,
    Penalty,
    Reservation,
    WaitTooLong,
)
from embedfleet_workers.rate_limits.stores.memory_store import MemoryStore
from embedfleet_workers.rate_limits.stores.redis_store import RedisStore
from embedfleet_workers.stop import Stop
from plugins.limiter_reservations import Cost, asked

pytestmark = pytest.mark.usefixtures("patient")

KEY = LimitKey("openai", "0123456789abcdef", "text-embedding-3-small")
STOP = Stop("INSUFFICIENT_QUOTA", "no money is left")
# 60 a minute at full target: one request a second.
ONE_A_SECOND = {"requests": Cost(1.0, quota=60.0)}


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Bench:
    """A store to be tested, and its clock."""

    store: LimitStore
    clock: Clock
    wipe: Callable[[], object]

    async def reserve(self, max_wait_s: float = 60.0, **costs: Cost) -> Any:
        wanted = costs or ONE_A_SECOND
        return await self.store.reserve(KEY, **asked(wanted), target=1.0, max_wait_s=max_wait_s)

    async def waits(self, count: int) -> list[float]:
        return [round((await self.reserve()).wait_s, 3) for _ in range(count)]


Tested = Callable[[Callable[[Bench], Coroutine[Any, Any, None]]], None]


@pytest.fixture(params=["memory", "redis"])
def tested(request: pytest.FixtureRequest) -> Iterator[Tested]:
    """Runs a test over a store whose clock the test moves."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else ""

    def run(test: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            clock = Clock()
            if not url:
                memory = MemoryStore(clock)
                await test(Bench(memory, clock, memory.forget))
                return
            store = RedisStore(url, clock)
            try:
                await test(Bench(store, clock, lambda: wiped(url)))
            finally:
                await store.close()

        asyncio.run(main())

    return run


def wiped(url: str) -> None:
    """Empty, scripts included: as after a restart without a disk."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        client.script_flush()


def test_requests_are_spread_evenly_in_the_order_they_came(tested: Tested):
    async def test(bench: Bench) -> None:
        assert [0.0, 1.0, 2.0, 3.0] == await bench.waits(4)

    tested(test)


def test_the_slowest_dimension_decides(tested: Tested):
    async def test(bench: Bench) -> None:
        costs = {"requests": Cost(1.0, quota=60.0), "tokens": Cost(300.0, quota=6_000.0)}
        waits = [(await bench.reserve(**costs)).wait_s for _ in range(3)]
        assert [0.0, 3.0, 6.0] == pytest.approx(waits)

    tested(test)


def test_a_dimension_without_a_known_limit_is_not_limited(tested: Tested):
    async def test(bench: Bench) -> None:
        await bench.store.settle(KEY, await bench.reserve(tokens=Cost(1.0)), {}, Reading())
        reservations = [await bench.reserve(tokens=Cost(1e9)) for _ in range(3)]
        assert [(0.0, False)] * 3 == [
            (reservation.wait_s, reservation.is_limited) for reservation in reservations
        ]

    tested(test)


def test_the_first_request_of_all_goes_alone_where_no_limit_is_known(tested: Tested):
    async def test(bench: Bench) -> None:
        first, second = [await bench.reserve(**UNKNOWN) for _ in range(2)]
        assert [0.0, 2.0] == [first.wait_s, second.wait_s]
        bench.clock.pass_(0.1)
        stated = Reading({"tokens": 6_000.0})
        await bench.store.settle(KEY, first, {}, stated, {"requests": 1.0, "tokens": 600.0})
        # What it heard holds for the one that waits, which asks anew.
        assert await bench.store.confirm(KEY, second, {}) is None
        anew = await bench.reserve(**UNKNOWN)
        # The first one was a tenth of a minute.
        assert (6.0, {"tokens": 6_000.0}) == (pytest.approx(anew.wait_s), anew.stated)
        assert {"tokens": 6_000.0} == (await bench.store.clock_state(KEY)).stated

    tested(test)


def test_a_refusal_without_a_word_teaches_what_was_answered_before(tested: Tested):
    async def test(bench: Bench) -> None:
        for _ in range(3):
            await answered(bench, 600.0)
        await refused(bench, 600.0)
        state = await bench.store.clock_state(KEY)
        assert {"requests": 3.0, "tokens": 1_800.0} == state.learnt
        shown = await bench.store.snapshot(KEY)
        assert 1_800.0 == shown.dimensions["tokens"].learnt
        turns = [await bench.reserve(**UNKNOWN) for _ in range(2)]
        # Three in a minute, at the full target.
        assert 20.0 == pytest.approx(turns[1].wait_s - turns[0].wait_s)

    tested(test)


def test_a_learnt_limit_grows_slowly_then_fast_until_it_is_refused(tested: Tested):
    async def test(bench: Bench) -> None:
        for _ in range(10):
            await answered(bench, 600.0)
        await refused(bench, 600.0)
        began, expected, found = bench.clock.now, [], []
        while bench.clock.now < began + 360.0:
            bench.clock.pass_(5.0)
            await answered(bench, 1.0)
            expected.append(math.exp(0.012 * ((bench.clock.now - began) / 60.0) ** 3))
            found.append((await bench.store.clock_state(KEY)).learnt["tokens"] / 6_000.0)
        assert expected == pytest.approx(found, rel=0.05)
        await refused(bench, 600.0)
        assert 0.7 * found[-1] * 6_000.0 == pytest.approx(
            (await bench.store.clock_state(KEY)).learnt["tokens"], rel=1e-3
        )

    tested(test)


def test_a_learnt_limit_is_there_after_hours_of_silence(tested: Tested):
    async def test(bench: Bench) -> None:
        await answered(bench, 600.0)
        await refused(bench, 600.0)
        bench.clock.pass_(10_000.0)
        assert {"requests": 1.5, "tokens": 900.0} == (await bench.reserve(**UNKNOWN)).learnt

    tested(test)


def test_a_size_that_is_refused_again_is_halved_and_doubles_with_answers(tested: Tested):
    async def test(bench: Bench) -> None:
        sizes = []
        for _ in range(4):
            await answered(bench, 1_000.0 * 2 ** len(sizes))
            sizes.append((await bench.store.clock_state(KEY)).largest)
        assert [2_000.0, 4_000.0, 8_000.0, 16_000.0] == sizes
        for _ in range(2):
            await refused(bench, 4_000.0, pause_s=30.0)
        assert 2_000.0 == (await bench.store.clock_state(KEY)).largest
        # It was refused at the very time that the server had named: it is not tried again so soon.
        await answered(bench, 2_000.0)
        await answered(bench, 2_000.0)
        assert 2_000.0 == (await bench.store.clock_state(KEY)).largest

    tested(test)


def test_refused_after_a_minute_of_silence_it_is_halved_down_to_one_token(tested: Tested):
    async def test(bench: Bench) -> None:
        await answered(bench, 1.0)
        bench.clock.pass_(70.0)
        sizes = []
        for size in (4.0, 2.0, 1.0, 1.0):
            await refused(bench, size, pause_s=61.0)
            sizes.append((await bench.store.clock_state(KEY)).largest)
        assert [2.0, 1.0, 1.0, 1.0] == sizes

    tested(test)


def test_a_quota_that_was_used_up_before_we_came_teaches_nothing(tested: Tested):
    async def test(bench: Bench) -> None:
        await refused(bench, 600.0, pause_s=50.0)
        state = await bench.store.clock_state(KEY)
        assert ({}, 0.0) == (state.learnt, state.largest)

    tested(test)


def test_what_a_person_sets_takes_the_place_of_what_was_learnt(tested: Tested):
    async def test(bench: Bench) -> None:
        await answered(bench, 600.0)
        await refused(bench, 600.0)
        turn = await bench.reserve(requests=Cost(1.0, 60.0), tokens=Cost(600.0, 60_000.0))
        assert {} == turn.learnt
        shown = await bench.store.snapshot(KEY)
        assert 0.0 == shown.dimensions["tokens"].learnt

    tested(test)


def test_a_server_that_refuses_within_its_limits_gets_smaller_requests(tested: Tested):
    async def test(bench: Bench) -> None:
        known = {"requests": Cost(1.0, 600.0), "tokens": Cost(800.0, 60_000.0)}
        sizes = []
        for size in (800.0, 800.0, 800.0, 400.0, 400.0, 400.0, 100.0, 100.0, 100.0):
            known["tokens"] = Cost(size, 60_000.0)
            await answered(bench, size, known)
            await refused(bench, size, limits=known)
            sizes.append((await bench.store.clock_state(KEY)).largest)
        # A minute has 60,000 tokens in 600 requests: below 100 requests would run out.
        expected = [0.0, 0.0, 400.0, 400.0, 400.0, 200.0, 200.0, 200.0, 100.0]
        assert expected == pytest.approx(sizes)

    tested(test)


def test_a_refusal_that_names_a_known_limit_teaches_nothing_of_another(tested: Tested):
    async def test(bench: Bench) -> None:
        sizes = []
        for named in ("tokens", "requests"):
            for _ in range(3):
                known = {"requests": Cost(1.0), "tokens": Cost(800.0, 60_000.0)}
                await answered(bench, 800.0, known)
                await refused(bench, 800.0, limits=known, about=[named])
            state = await bench.store.clock_state(KEY)
            sizes.append((state.largest, state.learnt.get("requests", 0.0)))
        # Of tokens that it names it counts less than a minute; requests may be too many, not large.
        assert [(400.0, 0.0), (400.0, 6.0)] == sizes

    tested(test)


def test_what_was_sent_before_a_limit_was_known_counts_unless_a_refusal_says_the_wait(
    tested: Tested,
):
    async def test(bench: Bench) -> None:
        waits = []
        for pause_s in (-1.0, 5.0):
            bench.wipe()
            for _ in range(3):
                await answered(bench, 600.0)
            await refused(bench, 600.0, pause_s=pause_s)
            turn = await bench.reserve(requests=Cost(1.0, 60.0), tokens=Cost(600.0, 6_000.0))
            waits.append(turn.wait_s)
        assert [18.0, 0.0] == pytest.approx(waits, abs=0.1)

    tested(test)


UNKNOWN = {"requests": Cost(1.0), "tokens": Cost(600.0)}


async def admitted(bench: Bench, costs: dict[str, Cost]) -> Reservation:
    """A request that may be sent, after the time that it waits."""
    turn = await bench.reserve(**costs)
    while turn.wait_s > 0:
        bench.clock.pass_(turn.wait_s)
        amounts = {name: each.amount for name, each in costs.items()}
        turn = await bench.store.confirm(KEY, turn, amounts)
    return turn


async def answered(bench: Bench, tokens: float, limits: dict[str, Cost] | None = None) -> None:
    turn = await admitted(bench, limits or {"requests": Cost(1.0), "tokens": Cost(tokens)})
    await bench.store.settle(KEY, turn, {}, Reading(), {"requests": 1.0, "tokens": tokens})


async def refused(
    bench: Bench,
    tokens: float,
    pause_s: float = -1.0,
    limits: dict[str, Cost] | None = None,
    about: Sequence[str] = (),
) -> None:
    """A request that is refused, and the time of its pause."""
    turn = await admitted(bench, limits or {"requests": Cost(1.0), "tokens": Cost(tokens)})
    bench.clock.pass_(0.01)
    refunds = {"requests": 0.0, "tokens": tokens}
    refusal = Penalty(pause_s, about=about)
    paused = await bench.store.penalize(KEY, turn, refunds, Reading(), refusal)
    bench.clock.pass_(paused + 0.01)


def test_the_smaller_of_what_is_set_and_what_is_seen_holds(tested: Tested):
    async def test(bench: Bench) -> None:
        reservations = [
            await bench.reserve(requests=Cost(1.0, quota=60.0, stated=30.0)) for _ in range(2)
        ]
        assert [0.0, 2.0] == pytest.approx([reservation.wait_s for reservation in reservations])
        assert {"requests": 30.0} == reservations[0].stated

    tested(test)


def test_what_a_person_sets_overrules_what_was_seen_of_a_shorter_window(tested: Tested):
    async def test(bench: Bench) -> None:
        # Seen while nothing was set, and kept: ten seconds of a limit of 300 a minute.
        first = await bench.reserve(requests=Cost(1.0))
        await bench.store.settle(KEY, first, {}, Reading({"requests": 50.0}))
        bench.clock.pass_(70.0)
        costs = {"requests": Cost(1.0, quota=300.0, stated=50.0)}
        waits = [(await bench.reserve(**costs)).wait_s for _ in range(3)]
        assert [0.0, 0.2, 0.4] == pytest.approx(waits)

    tested(test)


def test_what_is_beyond_the_longest_wait_is_not_reserved(tested: Tested):
    async def test(bench: Bench) -> None:
        await bench.waits(4)
        assert WaitTooLong(4.0) == await bench.reserve(max_wait_s=3.0)
        assert WaitTooLong(4.0) == await bench.reserve(max_wait_s=3.0)
        bench.clock.pass_(2.0)
        assert 2.0 == pytest.approx((await bench.reserve(max_wait_s=3.0)).wait_s)

    tested(test)


def test_after_a_long_silence_a_quarter_of_a_second_is_made_up_for(tested: Tested):
    async def test(bench: Bench) -> None:
        costs = {"requests": Cost(1.0, quota=600.0)}
        await bench.reserve(**costs)
        bench.clock.pass_(3_000.0)
        waits = [round((await bench.reserve(**costs)).wait_s, 3) for _ in range(8)]
        assert [0.0, 0.0, 0.0, 0.05, 0.15, 0.25, 0.35, 0.45] == waits

    tested(test)


def test_a_reservation_whose_time_has_come_is_confirmed(tested: Tested):
    async def test(bench: Bench) -> None:
        await bench.waits(1)
        reservation = await bench.reserve()
        bench.clock.pass_(0.4)
        early = await bench.store.confirm(KEY, reservation, {"requests": 1.0})
        assert 0.6 == pytest.approx(early.wait_s)
        bench.clock.pass_(0.6)
        assert 0.0 == (await bench.store.confirm(KEY, reservation, {"requests": 1.0})).wait_s

    tested(test)


def test_a_pause_moves_all_reservations_and_keeps_their_distance(tested: Tested):
    async def test(bench: Bench) -> None:
        first = await bench.reserve()
        waiting = [await bench.reserve() for _ in range(2)]
        refusal = Penalty(pause_s=5.0)
        paused = await bench.store.penalize(KEY, first, {"requests": 0.0}, Reading(), refusal)
        confirmed = [await bench.store.confirm(KEY, reservation, {}) for reservation in waiting]
        assert (5.0, [6.0, 7.0]) == (paused, [reservation.wait_s for reservation in confirmed])
        assert 8.0 == (await bench.reserve()).wait_s

    tested(test)


def test_what_a_refused_request_did_not_use_goes_to_the_next_in_the_queue(tested: Tested):
    async def test(bench: Bench) -> None:
        first, second = await bench.reserve(), await bench.reserve()
        refusal = Penalty(pause_s=5.0)
        await bench.store.penalize(KEY, first, {"requests": 1.0}, Reading(), refusal)
        assert 5.0 == (await bench.store.confirm(KEY, second, {})).wait_s

    tested(test)


def test_requests_refused_together_pause_once(tested: Tested):
    async def test(bench: Bench) -> None:
        together = [await bench.reserve(tokens=Cost(1.0)) for _ in range(3)]
        bench.clock.pass_(0.1)
        told = [
            await bench.store.penalize(KEY, reservation, {}, Reading(), Penalty())
            for reservation in together
        ]
        assert [0.5, 0.5, 0.5] == told

    tested(test)


def test_pauses_grow_while_nothing_succeeds(tested: Tested):
    async def test(bench: Bench) -> None:
        pauses = []
        for _ in range(7):
            reservation = await bench.reserve(tokens=Cost(1.0))
            bench.clock.pass_(0.1)
            pauses.append(await bench.store.penalize(KEY, reservation, {}, Reading(), Penalty()))
            bench.clock.pass_(pauses[-1] + 2.0)
        assert [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0] == pauses

    tested(test)


def test_one_request_goes_ahead_of_the_others_after_repeated_refusals(tested: Tested):
    async def test(bench: Bench) -> None:
        costs = {"requests": Cost(1.0, quota=6_000.0)}
        for _ in range(2):
            reservation = await bench.reserve(**costs)
            bench.clock.pass_(0.1)
            await bench.store.penalize(KEY, reservation, {}, Reading(), Penalty(pause_s=1.0))
            bench.clock.pass_(3.1)
        scout = await bench.reserve(**costs)
        behind = await bench.reserve(**costs)
        assert (0.0, 2.0) == (scout.wait_s, round(behind.wait_s, 1))
        bench.clock.pass_(0.2)
        await bench.store.settle(KEY, scout, {}, Reading())
        assert 0.0 == (await bench.store.confirm(KEY, behind, {"requests": 1.0})).wait_s

    tested(test)


def test_three_refusals_in_ten_seconds_despite_pauses_cut_the_rate_which_grows_again(
    tested: Tested,
):
    async def test(bench: Bench) -> None:
        for _ in range(3):
            reservation = await bench.reserve()
            await bench.store.settle(KEY, reservation, {}, Reading())
            bench.clock.pass_(0.1)
            refused = replace(reservation, answered_at=bench.clock.now * 1e6)
            await bench.store.penalize(KEY, refused, {}, Reading(), Penalty(pause_s=0.0))
            bench.clock.pass_(1.5)
        slowed = (await bench.store.snapshot(KEY)).slowed_to
        bench.clock.pass_(25.0)
        grown = (await bench.store.snapshot(KEY)).slowed_to
        bench.clock.pass_(60.0)
        assert [0.806, 0.906, 1.0] == [
            round(each, 3) for each in (slowed, grown, (await bench.store.snapshot(KEY)).slowed_to)
        ]

    tested(test)


def test_a_changed_limit_moves_those_who_wait_already(tested: Tested):
    async def test(bench: Bench) -> None:
        first = await bench.reserve()
        waiting = [await bench.reserve() for _ in range(3)]
        await bench.store.settle(KEY, first, {}, Reading({"requests": 30.0}))
        tail = await bench.reserve()
        waits = [(await bench.store.confirm(KEY, each, {})).wait_s for each in waiting]
        assert [2.0, 4.0, 6.0, 8.0] == pytest.approx([*waits, tail.wait_s])

    tested(test)


def test_an_answer_that_cost_less_brings_the_next_reservation_nearer(tested: Tested):
    async def test(bench: Bench) -> None:
        costs = {"tokens": Cost(100.0, quota=6_000.0)}
        reservation = await bench.reserve(**costs)
        await bench.store.settle(KEY, reservation, {"tokens": -40.0}, Reading())
        assert 0.6 == pytest.approx((await bench.reserve(**costs)).wait_s)

    tested(test)


def test_a_reservation_that_was_given_back_is_somebody_elses(tested: Tested):
    async def test(bench: Bench) -> None:
        await bench.reserve()
        unwanted = await bench.reserve()
        await bench.store.refund(KEY, unwanted, {"requests": 1.0}, sent=False)
        assert 1.0 == (await bench.reserve()).wait_s

    tested(test)


def test_what_others_use_of_the_quota_slows_us_and_what_we_use_does_not(tested: Tested):
    async def test(bench: Bench) -> None:
        costs = {"tokens": Cost(100.0, quota=6_000.0)}
        for _ in range(40):
            reservation = await bench.reserve(**costs)
            bench.clock.pass_(1.0)
            used = (await bench.store.snapshot(KEY)).dimensions["tokens"].used
            await bench.store.settle(
                KEY, reservation, {}, Reading({"tokens": 6_000.0}, {"tokens": 6_000.0 - used})
            )
        alone = (await bench.store.snapshot(KEY)).dimensions["tokens"].foreign
        for _ in range(60):
            reservation = await bench.reserve(**costs)
            bench.clock.pass_(1.0)
            used = (await bench.store.snapshot(KEY)).dimensions["tokens"].used
            await bench.store.settle(
                KEY,
                reservation,
                {},
                Reading({"tokens": 6_000.0}, {"tokens": 6_000.0 - used - 1_800}),
            )
        shared = (await bench.store.snapshot(KEY)).dimensions["tokens"].foreign
        assert (0.0, 0.28) == (alone, round(shared, 2))

    tested(test)


def test_a_server_that_never_has_much_left_counts_something_else(tested: Tested):
    async def test(bench: Bench) -> None:
        for _ in range(20):
            reservation = await bench.reserve()
            bench.clock.pass_(1.0)
            await bench.store.settle(
                KEY, reservation, {}, Reading({"requests": 60.0}, {"requests": 1.0})
            )
        assert 0.0 == (await bench.store.snapshot(KEY)).dimensions["requests"].foreign

    tested(test)


@pytest.mark.parametrize(("age_s", "foreign"), [(70.0, True), (30.0, False)])
def test_a_server_that_refuses_for_want_of_what_it_says_is_believed(
    tested: Tested, age_s: float, foreign: bool
):
    """Not in the first minute of a state: what is missing may be what we sent before."""

    async def test(bench: Bench) -> None:
        first = await bench.reserve()
        bench.clock.pass_(age_s)
        empty = Reading({"requests": 60.0}, {"requests": 0.0})
        await bench.store.penalize(KEY, first, {"requests": 0.0}, empty, Penalty(1.0, 0.0, "", ""))
        bench.clock.pass_(5.0)
        reservation = await bench.reserve()
        await bench.store.settle(
            KEY, reservation, {}, Reading({"requests": 60.0}, {"requests": 1.0})
        )
        found = (await bench.store.snapshot(KEY)).dimensions["requests"].foreign
        assert foreign == (found > 0.0)

    tested(test)


def test_a_stop_refuses_everything_until_it_is_taken_back_or_ten_seconds_are_over(tested: Tested):
    async def test(bench: Bench) -> None:
        await bench.reserve()
        waiting = await bench.reserve()
        await bench.store.stop(KEY, STOP, "host:1")
        assert STOP == await bench.reserve()
        assert STOP == await bench.store.confirm(KEY, waiting, {"requests": 1.0})
        assert STOP == (await bench.store.clock_state(KEY)).stopped
        await bench.store.resume(KEY)
        assert 1.0 == (await bench.reserve()).wait_s
        await bench.store.stop(KEY, STOP, "host:1")
        bench.clock.pass_(11.0)
        assert isinstance(await bench.reserve(), Reservation)

    tested(test)


def test_who_resumes_ends_a_pause_too(tested: Tested):
    """A proxy that asks for a day must not be believed against a person."""

    async def test(bench: Bench) -> None:
        reservation = await bench.reserve()
        await bench.store.penalize(KEY, reservation, {}, Reading(), Penalty(pause_s=86_400.0))
        assert isinstance(await bench.reserve(), WaitTooLong)
        bench.clock.pass_(10.0)
        await bench.store.resume(KEY)
        assert 0.0 == (await bench.store.snapshot(KEY)).paused_s
        assert (await bench.reserve()).wait_s <= 1.0

    tested(test)


def test_a_store_that_lost_everything_knows_no_reservations_and_gives_no_credit(tested: Tested):
    async def test(bench: Bench) -> None:
        await bench.waits(5)
        reservation = await bench.reserve()
        bench.wipe()
        assert await bench.store.confirm(KEY, reservation, {"requests": 1.0}) is None
        assert [0.0, 1.0, 2.0] == await bench.waits(3)
        # Ends of requests that were sent before the loss change nothing.
        await bench.store.settle(KEY, reservation, {"requests": -1.0}, Reading())
        await bench.store.refund(KEY, reservation, {"requests": 1.0}, sent=True)
        assert 3.0 == (await bench.reserve()).wait_s

    tested(test)


def test_a_snapshot_says_what_a_person_asks(tested: Tested):
    async def test(bench: Bench) -> None:
        assert await bench.store.snapshot(KEY) is None
        first = await bench.reserve()
        await bench.waits(2)
        refusal = Penalty(pause_s=4.0, why="the provider answered 429", by="host:7")
        await bench.store.penalize(KEY, first, {"requests": 0.0}, Reading(), refusal)
        await bench.store.stop(KEY, STOP, "host:8")
        found = await bench.store.snapshot(KEY)
        requests = found.dimensions["requests"]
        assert (60.0, 1.0, 7.0) == (requests.effective, requests.used, requests.ahead_s)
        assert (4.0, "the provider answered 429", "host:7") == (
            found.paused_s,
            found.paused_why,
            found.paused_by,
        )
        assert (STOP, "host:8") == (found.stopped, found.stopped_by)
        assert [KEY] == list(await bench.store.keys())

    tested(test)


def test_slots_are_given_in_the_order_of_asking(tested: Tested):
    async def test(bench: Bench) -> None:
        order: list[str] = []

        async def ask(name: str) -> None:
            took = await bench.store.acquire(KEY, name, slots=2, lease_s=60.0, wait_s=20.0)
            assert took
            order.append(name)

        waiting = []
        for name in "abcde":
            waiting.append(asyncio.create_task(ask(name)))
            await asyncio.sleep(0)
        await settled(bench, 2, 1)
        assert ["a", "b"] == order
        for number, name in enumerate("abc", start=2):
            await bench.store.release(KEY, name, slots=2)
            await waiting[number]
        assert ["a", "b", "c", "d", "e"] == order
        assert 2 == (await bench.store.snapshot(KEY)).in_flight

    tested(test)


def test_a_slot_goes_to_who_is_interactive_before_bulk_that_came_first(tested: Tested):
    async def test(bench: Bench) -> None:
        order: list[str] = []

        async def ask(name: str, lane: Lane) -> None:
            took = await bench.store.acquire(
                KEY, name, slots=1, lease_s=60.0, wait_s=20.0, lane=lane
            )
            assert took
            order.append(name)

        assert await bench.store.acquire(KEY, "held", slots=1, lease_s=60.0, wait_s=1.0)
        bulk = asyncio.create_task(ask("bulk", "bulk"))
        await settled(bench, 1, 1)
        quick = asyncio.create_task(ask("quick", "interactive"))
        while (await bench.store.snapshot(KEY)).waiting < 2:
            await asyncio.sleep(0.01)
        await bench.store.release(KEY, "held", slots=1)
        await quick
        await bench.store.release(KEY, "quick", slots=1)
        await bulk
        assert ["quick", "bulk"] == order

    tested(test)


async def settled(bench: Bench, in_flight: int, waiting: int) -> None:
    """Wait until the store shows so many. Of each process one waits in Redis, so there it is 1."""
    await bench.reserve(max_wait_s=math.inf)
    for _ in range(200):
        found = await bench.store.snapshot(KEY)
        if (found.in_flight, bool(found.waiting)) == (in_flight, bool(waiting)):
            return
        await asyncio.sleep(0.01)
    raise AssertionError((in_flight, waiting, found))


def test_a_slot_that_is_not_given_back_is_free_again_after_its_lease(tested: Tested):
    async def test(bench: Bench) -> None:
        assert await bench.store.acquire(KEY, "dead", slots=1, lease_s=60.0, wait_s=1.0)
        bench.clock.pass_(61.0)
        assert await bench.store.acquire(KEY, "next", slots=1, lease_s=60.0, wait_s=1.0)

    tested(test)


def test_who_waits_too_long_for_a_slot_leaves_the_queue(tested: Tested):
    async def test(bench: Bench) -> None:
        assert await bench.store.acquire(KEY, "a", slots=1, lease_s=60.0, wait_s=1.0)
        assert not await bench.store.acquire(KEY, "b", slots=1, lease_s=60.0, wait_s=0.05)
        await bench.store.release(KEY, "a", slots=1)
        assert await bench.store.acquire(KEY, "c", slots=1, lease_s=60.0, wait_s=0.05)

    tested(test)


def test_who_is_cancelled_while_waiting_for_a_slot_takes_none(tested: Tested):
    async def test(bench: Bench) -> None:
        assert await bench.store.acquire(KEY, "a", slots=1, lease_s=60.0, wait_s=1.0)
        gone = asyncio.create_task(
            bench.store.acquire(KEY, "b", slots=1, lease_s=60.0, wait_s=60.0)
        )
        await settled(bench, 1, 1)
        gone.cancel()
        await asyncio.wait([gone])
        await bench.store.release(KEY, "a", slots=1)
        assert await bench.store.acquire(KEY, "c", slots=1, lease_s=60.0, wait_s=1.0)

    tested(test)


# The same answers ---------------------------------------------------------------------------------

COSTS = st.sampled_from([0.0, 1.0, 7.0, 250.0, 3_000.0])
LIMITS = st.sampled_from([0.0, 60.0, 1_200.0, 300_000.0])
NAMES = ("requests", "tokens")
PRICED = st.fixed_dictionaries({name: st.builds(Cost, COSTS, LIMITS, LIMITS) for name in NAMES})
LIMITS_STATED = st.sampled_from([60.0, 1_200.0, 300_000.0])
READINGS = st.builds(
    Reading,
    st.dictionaries(st.sampled_from(NAMES), LIMITS_STATED),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from([-1.0, 0.0, 20.0, 60.0, 9e4])),
)
ANSWERED = st.sampled_from([{}, *({"requests": 1.0, "tokens": each} for each in (1.0, 3e3, 9e4))])
NAMED = st.sampled_from(["requests", "tokens", "inputs"])
PAUSES = st.sampled_from([-1.0, 0.0, 0.25, 3.0])
WHICH = st.integers(0, 50)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.sampled_from([0.001, 0.02, 0.3, 1.5, 11.0, 70.0])),
        st.tuples(st.just("reserve"), PRICED, st.sampled_from([0.0, 1.0, 60.0])),
        st.tuples(st.just("confirm"), WHICH),
        st.tuples(st.just("refund"), WHICH, st.booleans()),
        st.tuples(
            st.just("settle"), WHICH, st.sampled_from([-200.0, 0.0, 30.0]), READINGS, ANSWERED
        ),
        st.tuples(
            st.just("penalize"),
            WHICH,
            PAUSES,
            st.sampled_from([0.0, 0.5]),
            READINGS,
            st.sets(NAMED),
        ),
        st.tuples(st.just("stop")),
        st.tuples(st.just("resume")),
    ),
    max_size=40,
)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_both_stores_give_the_same_answers(redis_url: str, steps: list[tuple[Any, ...]]):
    async def main() -> None:
        clock = Clock()
        async with both(redis_url, clock) as stores:
            key = replace(KEY, group=uuid4().hex)
            reservations: list[list[Reservation]] = [[], []]
            for step in steps:
                if step[0] == "pass":
                    clock.pass_(step[1])
                    continue
                answers = [
                    plainly(await took(store, key, step, known))
                    for store, known in zip(stores, reservations, strict=True)
                ]
                assert answers[0] == pytest.approx(answers[1], rel=1e-6, abs=1e-6), step
            if reservations[0]:
                shown = [plainly(await store.clock_state(key)) for store in stores]
                assert shown[0] == pytest.approx(shown[1], rel=1e-6, abs=1e-6)
            first, second = [plainly(await store.snapshot(key)) for store in stores]
            assert first == pytest.approx(second, rel=1e-6, abs=1e-6)

    asyncio.run(main())


@asynccontextmanager
async def both(url: str, clock: Clock) -> AsyncIterator[tuple[LimitStore, LimitStore]]:
    fleet = RedisStore(url, clock)
    try:
        yield MemoryStore(clock), fleet
    finally:
        await fleet.close()


async def took(
    store: LimitStore, key: LimitKey, step: tuple[Any, ...], reservations: list[Reservation]
) -> Any:
    """One step over one store; a step about a reservation takes one of those given so far."""
    answer: Any = None
    match step:
        case ("reserve", costs, max_wait_s):
            answer = await store.reserve(key, **asked(costs), target=0.985, max_wait_s=max_wait_s)
            reservations += [answer] if isinstance(answer, Reservation) else []
        case ("stop",):
            await store.stop(key, STOP, "host:1")
        case ("resume",):
            await store.resume(key)
        case (_, which, *_) if reservations:
            answer = await ended(store, key, step, reservations[which % len(reservations)])
    return answer


async def ended(
    store: LimitStore, key: LimitKey, step: tuple[Any, ...], reservation: Reservation
) -> Any:
    match step:
        case ("confirm", _):
            return await store.confirm(key, reservation, {"requests": 1.0, "tokens": 100.0})
        case ("refund", _, sent):
            await store.refund(key, reservation, {"tokens": 100.0}, sent=sent)
        case ("settle", _, delta, readings, costs):
            await store.settle(key, reservation, {"tokens": delta}, readings, costs)
        case ("penalize", _, pause_s, jitter, readings, about):
            refunds = {"requests": 0.0, "tokens": 100.0}
            refusal = Penalty(pause_s, jitter, by="host:1", about=sorted(about))
            return await store.penalize(key, reservation, refunds, readings, refusal)
    return None


def plainly(answer: Any) -> list[Any]:
    """An answer as numbers and words, without the name of the state."""
    match answer:
        case None | float():
            return [] if answer is None else [answer]
        case Reservation() | ClockState():
            told = sorted(answer.stated.items()) + sorted(answer.learnt.items())
            numbers = [answer.largest, *(value for _, value in told)]
            if isinstance(answer, ClockState):
                return [*numbers, answer.clock, answer.speed, answer.paused]
            times = [answer.wait_s, answer.tat, answer.answered_at]
            return [*numbers, *times, float(answer.is_limited)]
        case WaitTooLong():
            return [answer.wait_s]
        case Stop():
            return [hash(type(answer).__name__)]
    dimensions = [
        number
        for each in answer.dimensions.values()
        for number in (
            each.stated,
            each.effective,
            each.used,
            each.ahead_s,
            each.foreign,
            each.learnt,
        )
    ]
    return [
        *dimensions,
        answer.largest,
        answer.paused_s,
        answer.slowed_to,
        float(answer.stopped is not None),
    ]

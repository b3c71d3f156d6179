"""The policy of the limiter, in virtual time: waiting, stops, what headers are believed."""

import asyncio
import itertools
import math
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from embedfleet_schema.accounts import account_of
from embedfleet_schema.store.limits import LimitBook, LimitName
from embedfleet_workers.embedding_errors import EmbedderBusy, StoreAway
from embedfleet_workers.rate_limits.concurrency import FIRST, AdaptiveConcurrency
from embedfleet_workers.rate_limits.limiter import Limiter
from embedfleet_workers.rate_limits.quota import LimitKey, Reading, is_plausible, wait_after_429
from embedfleet_workers.rate_limits.registry import LimiterRegistry
from embedfleet_workers.rate_limits.stores.fallback_store import FallbackStore
from embedfleet_workers.rate_limits.stores.limit_store import Reservation
from embedfleet_workers.rate_limits.stores.memory_store import MemoryStore
from embedfleet_workers.rate_limits.waiting import AHEAD_S
from embedfleet_workers.stop import Stop
from plugins.limiter_reservations import Cost, asked
from plugins.virtual_time import run_in_virtual_time

ONE = {"requests": 1.0}


class Unreachable:
    """A store that the dead cannot tell anything any more."""

    async def refund(self, *_: object, **__: object) -> None:
        """Nothing comes through."""

    release = refund


def limiters_of(quotas: dict[str, float], processes: int = 1) -> list[Limiter]:
    """The limiters of several processes over one store."""
    store = MemoryStore(asyncio.get_running_loop().time)
    made = [LimiterRegistry(None, None, store=store, target=1.0) for _ in range(processes)]
    for each in made:
        each.book = LimitBook({LimitName("openai", "", "model"): quotas} if quotas else {})
    return [each.limiter("openai", "model", "account") for each in made]


def now() -> float:
    return asyncio.get_running_loop().time()


def virtually(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_in_virtual_time(test())


def test_a_caller_is_admitted_at_its_time_and_not_before():
    async def test() -> None:
        (limiter,) = limiters_of({"requests": 60.0})
        began = now()
        moments = []
        for _ in range(4):
            await limiter.admit(ONE, max_wait_s=60)
            moments.append(round(now() - began, 2))
        assert [0.0, 1.0, 2.0, 3.0] == moments

    virtually(test)


def test_a_wait_that_is_too_long_says_when_to_come_again():
    async def test() -> None:
        (limiter,) = limiters_of({"requests": 6.0})
        await limiter.admit(ONE, max_wait_s=5)
        with pytest.raises(EmbedderBusy, match=r"wait 7\.5 s: the rate limit of openai/account/mo"):
            await limiter.admit(ONE, max_wait_s=5)

    virtually(test)


def test_processes_share_a_limit():
    async def test() -> None:
        first, second = limiters_of({"requests": 60.0}, processes=2)
        began = now()
        await asyncio.gather(*(each.admit(ONE, max_wait_s=60) for each in [first, second] * 5))
        assert 9.0 == pytest.approx(now() - began, abs=0.01)

    virtually(test)


def test_a_stop_is_heard_by_all_who_wait_anywhere_within_a_second():
    async def test() -> None:
        first, second = limiters_of({"requests": 6.0}, processes=2)
        waiting = [
            asyncio.create_task(limiter.admit(ONE, max_wait_s=60))
            for limiter in [first, second] * 3
        ]
        await asyncio.sleep(1.0)
        stopped_at = now()
        await first.stop(Stop("INSUFFICIENT_QUOTA", "no money is left"))
        await asyncio.wait(waiting[1:])
        errors = [task.exception() for task in waiting[1:]]
        assert [EmbedderBusy] * 5 == [type(error) for error in errors]
        assert now() - stopped_at < 1.0
        with pytest.raises(EmbedderBusy) as caught:
            await second.admit(ONE, max_wait_s=60)
        # A hint, and nothing of what it says.
        assert "money" not in str(caught.value)
        assert 10.0 == caught.value.seconds

    virtually(test)


def test_a_waiter_that_is_cancelled_gives_its_reservation_back():
    async def test() -> None:
        (limiter,) = limiters_of({"requests": 60.0})
        await limiter.admit(ONE, max_wait_s=60)
        unwanted = asyncio.create_task(limiter.admit(ONE, max_wait_s=60))
        await asyncio.sleep(0.5)
        unwanted.cancel()
        await asyncio.wait([unwanted])
        began = now()
        await limiter.admit(ONE, max_wait_s=60)
        assert 0.5 == pytest.approx(now() - began, abs=0.01)

    virtually(test)


def test_the_reservation_of_a_cancelled_waiter_is_handed_over_to_the_queue():
    async def test() -> None:
        (limiter,) = limiters_of({"requests": 60.0})
        began = now()
        came: list[float] = []

        async def wait() -> None:
            await limiter.admit(ONE, max_wait_s=60)
            came.append(now() - began)

        waiting = [asyncio.create_task(wait()) for _ in range(6)]
        await asyncio.sleep(0.5)
        waiting[1].cancel()
        await asyncio.wait(waiting)
        assert [0.0, 1.0, 2.0, 3.0, 4.0] == pytest.approx(came, abs=0.05)

    virtually(test)


def test_a_large_request_does_not_take_over_the_reservation_of_a_small_one():
    async def test() -> None:
        (limiter,) = limiters_of({"tokens": 6_000.0})
        began = now()
        small, large = {"tokens": 100.0}, {"tokens": 500.0}
        waiting = [
            asyncio.create_task(limiter.admit(costs, max_wait_s=60))
            for costs in (small, small, small, large)
        ]
        await asyncio.sleep(0.5)
        waiting[1].cancel()
        await asyncio.wait(waiting)
        assert 3.0 == pytest.approx(now() - began, abs=0.05)

    virtually(test)


def test_a_process_that_dies_takes_two_seconds_of_reservations_with_it_at_the_most():
    async def test() -> None:
        first, second = limiters_of({"requests": 60.0}, processes=2)
        dead = [asyncio.create_task(first.admit(ONE, max_wait_s=60)) for _ in range(30)]
        await asyncio.sleep(0.5)
        first.store = cast("Any", Unreachable())
        for task in dead:
            task.cancel()
        began = now()
        await second.admit(ONE, max_wait_s=60)
        assert now() - began <= AHEAD_S + 1.0

    virtually(test)


def test_a_reservation_from_the_middle_that_is_given_back_is_not_booked_twice():
    async def test() -> None:
        (limiter,) = limiters_of({"requests": 60.0})
        await limiter.admit(ONE, max_wait_s=60)
        began = now()
        waiting = [asyncio.create_task(limiter.admit(ONE, max_wait_s=60)) for _ in range(6)]
        await asyncio.sleep(0.1)
        waiting[0].cancel()
        moments = []
        for task in asyncio.as_completed(waiting[1:]):
            await task
            moments.append(now() - began)
        gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
        assert min(gaps) >= 0.99

    virtually(test)


def test_a_queue_that_is_too_long_is_told_at_once():
    async def test() -> None:
        (limiter,) = limiters_of({"requests": 60.0})
        waiting = [asyncio.create_task(limiter.admit(ONE, max_wait_s=60)) for _ in range(30)]
        await asyncio.sleep(0.1)
        began = now()
        with pytest.raises(EmbedderBusy):
            await limiter.admit(ONE, max_wait_s=5)
        assert now() == began
        for task in waiting:
            task.cancel()

    virtually(test)


def test_first_come_first_served_in_a_process():
    async def test() -> None:
        (limiter,) = limiters_of({"requests": 60.0})
        served: list[int] = []

        async def ask(number: int) -> None:
            await limiter.admit(ONE, max_wait_s=60)
            served.append(number)

        await asyncio.gather(*(ask(number) for number in range(12)))
        assert list(range(12)) == served

    virtually(test)


def test_an_admission_ends_once():
    async def test() -> None:
        (limiter,) = limiters_of({"requests": 60.0})
        admission = await limiter.admit(ONE, max_wait_s=60)
        await admission.rate_limited(5.0)
        await admission.rate_limited(50.0)
        await admission.settle({"requests": 0.0})
        began = now()
        await limiter.admit(ONE, max_wait_s=60)
        assert 6.0 <= now() - began <= 6.6

    virtually(test)


@pytest.mark.parametrize(
    ("limit", "quota", "believed"),
    [
        (500.0, 0.0, True),
        (500.0, 1_000.0, True),
        (5_000.0, 1_000.0, True),
        (1_000.0 / 6, 1_000.0, False),
        (0.0, 0.0, False),
        (-1.0, 0.0, False),
        (math.nan, 0.0, False),
        (math.inf, 0.0, False),
        (1e15, 0.0, False),
    ],
)
def test_a_limit_from_headers_is_believed_when_it_can_be_one_of_a_minute(
    limit: float, quota: float, believed: bool
):
    assert believed == is_plausible(limit, quota)


def test_a_limit_from_headers_holds_from_the_next_request_on():
    async def test() -> None:
        (limiter,) = limiters_of({})
        admission = await limiter.admit(ONE, max_wait_s=60)
        assert 1_000 == limiter.most_tokens
        await admission.settle(reading=Reading({"requests": 60.0, "tokens": 250_000.0}))
        assert 4_166 == limiter.most_tokens
        await limiter.admit(ONE, max_wait_s=60)
        began = now()
        await limiter.admit(ONE, max_wait_s=60)
        assert 1.0 == pytest.approx(now() - began, abs=0.01)

    virtually(test)


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({"tokens": 1_000_000.0}, 10_000),
        ({"tokens": 150.0}, 1),
        ({"tokens": 20.0}, 1),
        # Few requests: each takes its share of the tokens, less what estimates are off by.
        ({"tokens": 10_000.0, "requests": 3.0}, 3_266),
        ({"tokens": 30_000.0, "requests": 6.0}, 4_900),
        ({"tokens": 30_000.0, "requests": 120.0}, 375),
        ({"tokens": 60_000.0, "requests": 600.0}, 600),
        ({"tokens": 5_000_000.0, "requests": 5_000.0}, 50_000),
        # Nothing is known of the tokens.
        ({"requests": 6.0}, 1_000),
        ({}, 1_000),
    ],
)
def test_a_request_is_as_large_as_the_tokens_and_requests_of_a_minute_allow(limits, most):
    async def test() -> None:
        (limiter,) = limiters_of(limits)
        assert most == limiter.most_tokens

    virtually(test)


@pytest.mark.parametrize(
    ("retry_after", "reading", "expected"),
    [
        (2.5, Reading({"tokens": 6_000.0}, {"tokens": 0.0}), 2.5),
        (0.0, None, 0.0),
        (None, None, -1.0),
        (None, Reading({"tokens": 6_000.0}, {"tokens": 40.0}), 0.6),
        (None, Reading({"tokens": 6_000.0}, {"tokens": 400.0}), -1.0),
        # It never fits, so it is not waited for longer than a whole bucket takes.
        (None, Reading({"tokens": 50.0}, {"tokens": 0.0}), 60.0),
        (math.nan, Reading({}, {"tokens": 0.0}), -1.0),
        (-3.0, None, -1.0),
    ],
)
def test_the_wait_after_a_429_is_the_servers_or_what_the_bucket_needs(
    retry_after, reading, expected
):
    assert expected == wait_after_429({"tokens": 100.0}, retry_after, reading)


def test_a_cap_on_requests_at_once_holds_for_the_whole_fleet():
    async def test() -> None:
        registry = limiters_of({"concurrency": 2.0}, processes=3)
        under_way = most = 0

        async def call(limiter: Limiter) -> None:
            nonlocal under_way, most
            admission = await limiter.admit(ONE, max_wait_s=60)
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(1.0)
            under_way -= 1
            await admission.settle()

        # The first request of all goes alone.
        await call(registry[0])
        began = now()
        await asyncio.gather(*(call(limiter) for limiter in registry * 4))
        assert (2, 6.0) == (most, pytest.approx(now() - began, abs=0.01))

    virtually(test)


def test_a_slot_comes_back_however_its_request_ends():
    async def test() -> None:
        (limiter,) = limiters_of({"concurrency": 1.0})
        for end in ("settle", "rate_limited", "failed"):
            admission = await limiter.admit(ONE, max_wait_s=60)
            with pytest.raises(EmbedderBusy, match="all slots"):
                await limiter.admit(ONE, max_wait_s=1)
            await getattr(admission, end)()

    virtually(test)


def test_a_model_that_is_put_into_a_group_draws_on_the_limit_of_the_group_from_then_on():
    async def test() -> None:
        registry = LimiterRegistry(None, None, store=MemoryStore(asyncio.get_running_loop().time))
        own = registry.limiter("openai", "model", "account")
        assert own is registry.limiter("openai", "model", "account")
        quotas = {LimitName("openai", "", "group"): {"tokens": 500_000.0}}
        registry.book = LimitBook(quotas, {("openai", "model"): "group"})
        groups = registry.limiter("openai", "model", "account")
        assert ("group", 5_000) == (groups.key.group, groups.most_tokens)
        registry.book = LimitBook(quotas)
        assert own is registry.limiter("openai", "model", "account")

    virtually(test)


def test_accounts_are_told_apart_and_give_no_key_away():
    found = account_of("sk-secret", "https://api.openai.com/v1/")
    assert account_of("sk-secret", "https://api.openai.com/v1") == found
    assert 3 == len({found, account_of("sk-other", ""), account_of("sk-secret", "http://other")})
    assert (16, True) == (len(found), set(found) <= set("0123456789abcdef"))


# A server that states no quota --------------------------------------------------------------------


async def load(slots: AdaptiveConcurrency, rounds: int, answer: Callable[[int], float]) -> int:
    """Send as many requests as there is room for; returns how many there were at once at last."""
    most = 0

    async def call() -> None:
        nonlocal most
        entered = await slots.enter(600.0)
        assert entered is not None
        most = max(most, slots.in_flight)
        took = answer(slots.in_flight)
        await asyncio.sleep(abs(took))
        slots.leave(entered, answered=took >= 0)

    for _ in range(rounds):
        most = 0
        await asyncio.gather(*(call() for _ in range(2 * int(slots.limit))))
    return most


def test_a_server_that_bears_more_is_given_more_up_to_a_limit():
    async def test() -> None:
        slots = AdaptiveConcurrency()
        assert int(FIRST) == await load(slots, 1, lambda _: 0.1)
        assert 64 == await load(slots, 60, lambda _: 0.1)

    virtually(test)


def test_a_server_that_fails_is_given_one_at_a_time():
    async def test() -> None:
        slots = AdaptiveConcurrency()
        assert 1 == await load(slots, 10, lambda _: -0.1)

    virtually(test)


def test_a_server_that_only_makes_requests_wait_is_not_given_ever_more():
    async def test() -> None:
        slots = AdaptiveConcurrency()
        # Eight at once are served at full speed, more only share it.
        most = await load(slots, 200, lambda at_once: 0.5 * max(1.0, at_once / 8))
        assert 8 <= most <= 24

    virtually(test)


def test_small_requests_beside_large_ones_are_no_sign_of_slowness():
    async def test() -> None:
        slots = AdaptiveConcurrency()

        async def call(size: float) -> None:
            entered = await slots.enter(600.0)
            assert entered is not None
            await asyncio.sleep(size / 1_000)
            slots.leave(entered, answered=True, size=size)

        for _ in range(60):
            sizes = [10.0 if each % 8 == 7 else 2_000.0 for each in range(2 * int(slots.limit))]
            await asyncio.gather(*map(call, sizes))
        assert slots.limit > 32

    virtually(test)


def test_who_comes_while_the_head_of_the_queue_sits_out_a_pause_is_told_so_at_once():
    async def test() -> None:
        (limiter,) = limiters_of({"requests": 60.0})
        await (await limiter.admit(ONE, max_wait_s=5)).rate_limited(30.0)
        head = asyncio.create_task(limiter.admit(ONE, max_wait_s=60))
        await asyncio.sleep(0.1)
        began = now()
        with pytest.raises(EmbedderBusy) as raised:
            await limiter.admit(ONE, max_wait_s=5)
        assert (0.0, 27.5) == (now() - began, pytest.approx(raised.value.seconds, abs=2))
        await (await head).settle()

    virtually(test)


def test_who_gives_up_waiting_takes_no_slot():
    async def test() -> None:
        slots = AdaptiveConcurrency()
        entered = [await slots.enter(1.0) for _ in range(4)]
        assert await slots.enter(1.0) is None
        unwanted = asyncio.create_task(slots.enter(60.0))
        await asyncio.sleep(0.1)
        unwanted.cancel()
        await asyncio.wait([unwanted])
        for each in entered:
            assert each is not None
            slots.leave(each, answered=None)
        assert 0 == slots.in_flight

    virtually(test)


def test_a_limit_that_is_taken_back_leaves_no_server_without_any():
    async def test() -> None:
        store = MemoryStore(asyncio.get_running_loop().time)
        registry = LimiterRegistry(None, None, store=store, target=1.0)
        registry.book = LimitBook({LimitName("openai", "", "model"): {"requests": 6_000.0}})
        limiter = registry.limiter("openai", "model", "account")
        await (await limiter.admit(ONE, max_wait_s=5)).settle()
        registry.book = LimitBook({})
        for _ in range(int(FIRST)):
            await limiter.admit(ONE, max_wait_s=5)
        with pytest.raises(EmbedderBusy, match="all slots"):
            await limiter.admit(ONE, max_wait_s=1)

    virtually(test)


def test_while_the_store_is_away_siblings_are_no_strangers():
    """The server misses what all processes used, and each of them knows its own part alone."""

    class Away(MemoryStore):
        away = True

        def _now(self) -> float:
            if self.away:
                raise StoreAway("cut")
            return super()._now()

    async def test() -> None:
        loop = asyncio.get_running_loop()
        fleet = Away(loop.time)
        store = FallbackStore(fleet, lambda: 4)
        key = LimitKey("openai", "account", "model")
        costs = asked({"tokens": Cost(100.0, quota=6_000.0)})

        async def foreign(seconds: int) -> float:
            for _ in range(seconds // 5):
                reservation = await store.reserve(key, **costs, target=1.0, max_wait_s=60)
                assert isinstance(reservation, Reservation)
                await store.settle(
                    key, reservation, {}, Reading({"tokens": 6_000.0}, {"tokens": 2_000.0})
                )
                await asyncio.sleep(5.0)
            found = await store.snapshot(key)
            assert found is not None
            return found.dimensions["tokens"].foreign

        assert 0.0 == await foreign(60)
        fleet.away = False
        assert 0.0 == await foreign(50)
        # After a minute the fleet's store knows all that the fleet used.
        assert 0.0 < await foreign(30)

    virtually(test)


def test_those_who_wait_are_let_in_once_a_quota_is_known():
    async def test() -> None:
        (limiter,) = limiters_of({})
        await (await limiter.admit(ONE, max_wait_s=60)).settle()
        first = await limiter.admit(ONE, max_wait_s=60)
        rest = [asyncio.create_task(limiter.admit(ONE, max_wait_s=60)) for _ in range(9)]
        await asyncio.sleep(1.0)
        assert 3 == sum(task.done() for task in rest)
        await first.settle(reading=Reading({"requests": 6_000.0}))
        await asyncio.gather(*rest)

    virtually(test)

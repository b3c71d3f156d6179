"""The limiter lets what is interactive go first, and uses the rate all the same: virtual time."""

import asyncio

from embedfleet_schema.store.limits import LimitBook, LimitName
from embedfleet_schema.turns import Lane
from embedfleet_workers.lanes import IN_A_ROW
from embedfleet_workers.rate_limits.concurrency import AdaptiveConcurrency
from embedfleet_workers.rate_limits.limiter import Limiter
from embedfleet_workers.rate_limits.quota import LimitKey
from embedfleet_workers.rate_limits.registry import LimiterRegistry
from embedfleet_workers.rate_limits.stores.limit_store import HEAD_START_S
from embedfleet_workers.rate_limits.stores.memory_store import MemoryStore
from embedfleet_workers.rate_limits.waiting import AHEAD_S, LaneLock
from plugins.virtual_time import run_in_virtual_time

ONE = {"requests": 1.0}
KEY = LimitKey("openai", "account", "model")


def limiters_of(per_minute: float, processes: int = 1) -> list[Limiter]:
    """The limiters of several processes over one store."""
    store = MemoryStore(asyncio.get_running_loop().time)
    made = [LimiterRegistry(None, None, store=store, target=1.0) for _ in range(processes)]
    for each in made:
        each.book = LimitBook({LimitName("openai", "", "model"): {"requests": per_minute}})
    return [each.limiter("openai", "model", "account") for each in made]


def now() -> float:
    return asyncio.get_running_loop().time()


class Backlog:
    """Bulk requests that ask again and again in a process, and when they were admitted."""

    def __init__(self, limiter: Limiter, at_once: int = 8) -> None:
        self.came: list[float] = []
        self._limiter = limiter
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(at_once)]

    async def _ask(self) -> None:
        while True:
            admission = await self._limiter.admit(ONE, max_wait_s=600, lane="bulk")
            self.came.append(now())
            await admission.settle()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def interactive_waits(limiter: Limiter, count: int, every_s: float) -> list[float]:
    waits = []
    for _ in range(count):
        await asyncio.sleep(every_s)
        began = now()
        admission = await limiter.admit(ONE, max_wait_s=60, lane="interactive")
        waits.append(now() - began)
        await admission.settle()
    return waits


def test_an_interactive_request_waits_for_what_is_reserved_and_for_nothing_behind_it():
    async def test() -> None:
        limiters, began = limiters_of(120.0, processes=4), now()
        backlogs = [Backlog(each) for each in limiters]
        waits = await interactive_waits(limiters[0], 40, every_s=5.3)
        lasted = now() - began
        for each in backlogs:
            await each.stop()
        assert max(waits) <= AHEAD_S + 1.0
        # With 32 of them before it, it would wait for 16 seconds.
        used = sum(len(each.came) for each in backlogs) + len(waits)
        assert used >= 0.98 * 2.0 * lasted

    run_in_virtual_time(test())


def test_bulk_does_not_starve_beside_interactive_requests_that_never_end():
    async def test() -> None:
        (limiter,) = limiters_of(120.0)
        bulk = Backlog(limiter)
        greedy = [
            asyncio.create_task(interactive_waits(limiter, 1_000, every_s=0.0)) for _ in range(8)
        ]
        await asyncio.sleep(600)
        for task in greedy:
            task.cancel()
        await bulk.stop()
        expected = 1_200 / (IN_A_ROW + 1)
        assert 0.8 * expected <= len(bulk.came) <= 1.3 * expected

    run_in_virtual_time(test())


def test_bulk_does_not_starve_where_another_process_has_nothing_but_interactive_requests():
    async def test() -> None:
        first, second = limiters_of(120.0, processes=2)
        bulk = Backlog(second)
        greedy = [
            asyncio.create_task(interactive_waits(first, 1_000, every_s=0.0)) for _ in range(8)
        ]
        await asyncio.sleep(600)
        for task in greedy:
            task.cancel()
        await bulk.stop()
        # One in a time to age, and in what it takes to find a free moment then.
        assert len(bulk.came) >= 600 / 45

    run_in_virtual_time(test())


def test_slots_for_requests_go_to_interactive_ones_first():
    async def test() -> None:
        slots = AdaptiveConcurrency()
        entered = [await slots.enter(60.0) for _ in range(4)]
        order: list[str] = []

        async def wait(name: str, lane: str) -> None:
            await slots.enter(60.0, lane)
            order.append(name)

        for name, lane in (("a", "bulk"), ("b", "bulk"), ("c", "interactive")):
            asyncio.create_task(wait(name, lane))  # noqa: RUF006 - awaited by the order
            await asyncio.sleep(0)
        for moment in entered[:3]:
            slots.leave(moment, answered=None)
            await asyncio.sleep(0)
        assert ["c", "a", "b"] == order

    run_in_virtual_time(test())


def test_bulk_that_waits_for_a_slot_for_a_minute_is_passed_by_nobody():
    async def test() -> None:
        store, order = MemoryStore(asyncio.get_running_loop().time), []

        async def ask(name: str, lane: Lane) -> None:
            asked = {"slots": 1, "lease_s": 600.0, "wait_s": 600.0, "lane": lane}
            assert await store.acquire(KEY, name, **asked)
            order.append(name)
            await store.release(KEY, name, slots=1)

        assert await store.acquire(KEY, "held", slots=1, lease_s=600.0, wait_s=1.0)
        waiting = [asyncio.create_task(ask("bulk", "bulk"))]
        for name, seconds in (("quick", HEAD_START_S - 1.0), ("late", 2.0)):
            await asyncio.sleep(seconds)
            waiting.append(asyncio.create_task(ask(name, "interactive")))
            await asyncio.sleep(0)
        await store.release(KEY, "held", slots=1)
        await asyncio.gather(*waiting)
        assert ["quick", "bulk", "late"] == order

    run_in_virtual_time(test())


def test_a_lock_that_is_handed_to_someone_who_left_goes_to_the_next():
    async def test() -> None:
        lock = LaneLock()
        await lock.acquire("bulk")
        gone = asyncio.create_task(lock.acquire("interactive"))
        left = asyncio.create_task(lock.acquire("bulk"))
        await asyncio.sleep(0)
        assert lock.is_wanted
        lock.release()
        gone.cancel()
        await asyncio.wait([gone])
        await asyncio.wait_for(left, 1.0)
        assert gone.cancelled()
        lock.release()
        assert not lock.locked()

    run_in_virtual_time(test())

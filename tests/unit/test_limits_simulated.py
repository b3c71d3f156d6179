"""What the limiter promises, in minutes of virtual time, from the provider's own account.

Four processes send as fast as they may for four minutes; the first is left out, as a warm-up.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from plugins.simulated_fleets import (
    Account,
    Bucket,
    Costs,
    Fleet,
    Meter,
    Provider,
    Sliced,
    SlidingLog,
    fixed,
    mixed,
    simulated,
)
from plugins.virtual_time import run_in_virtual_time

TOKENS = 300_000.0
MINUTES = 4
SLOTS = 8
LARGEST = fixed(requests=1, tokens=TOKENS / 100)
TINY = fixed(requests=1, tokens=20)
# 19 small requests for each large one.
MIXED = mixed(1, (95, {"requests": 1, "tokens": 100}), (5, {"requests": 1, "tokens": 3_000}))

Kind = Callable[[float], Meter]
Meanwhile = Callable[[Fleet], Awaitable[None]]


@dataclass
class Run:
    """A run that is over: the provider's account, and the figures that are promised."""

    account: Account
    fleet: Fleet
    began: float
    limits: dict[str, float]

    def used(self, name: str, since: float = 60, until: float = 60.0 * MINUTES) -> float:
        """The share of the quota that was admitted, by whomever it was sent."""
        quota = self.limits[name] * (until - since) / 60
        return self.account.used(name, self.began + since, self.began + until) / quota

    def refused(self, since: float = 60, until: float = 60.0 * MINUTES) -> float:
        return self.account.refused_share(self.began + since, self.began + until)


async def nothing(fleet: Fleet) -> None:
    """Nothing happens beside the work."""


def run(
    meters: dict[str, Meter],
    costs: Callable[[], Costs] = LARGEST,
    *,
    meanwhile: Meanwhile = nothing,
    quotas: dict[str, float] | None = None,
    minutes: float = MINUTES,
    tells: bool = True,
) -> Run:
    limits = {name: meter.limit for name, meter in meters.items()}

    async def main() -> Run:
        began = asyncio.get_running_loop().time()
        with simulated(Provider(meters, seed=1, tells=tells), quotas) as fleet:
            await asyncio.gather(fleet.work(60 * minutes, SLOTS, costs), meanwhile(fleet))
            return Run(fleet.provider.account, fleet, began, limits)

    return run_in_virtual_time(main())


def both(kind: Kind, requests: float = 5_000.0) -> dict[str, Meter]:
    return {"tokens": kind(TOKENS), "requests": kind(requests)}


def another_program(share: float) -> Meanwhile:
    """Takes a share of the tokens with requests of its own, whatever the answers."""

    async def call(fleet: Fleet) -> None:
        every = 1_000 * 60 / (share * TOKENS)
        async with asyncio.TaskGroup() as calls:
            for _ in range(int(60 * MINUTES * 2 / every)):
                costs = {"requests": 1, "tokens": 1_000}
                calls.create_task(fleet.provider.call(costs, "another"))
                await asyncio.sleep(every)

    return call


@pytest.mark.parametrize("kind", [Bucket, SlidingLog])
def test_tokens_are_used_to_the_full_and_nothing_is_refused(kind: Kind):
    done = run(both(kind))
    assert 0.98 <= done.used("tokens") <= 1.005
    assert 0.0 == done.refused()


@pytest.mark.parametrize("kind", [Bucket, SlidingLog])
def test_requests_are_used_to_the_full_and_nothing_is_refused(kind: Kind):
    done = run(both(kind, requests=1_200.0), TINY)
    assert 0.98 <= done.used("requests") <= 1.005
    assert 0.0 == done.refused()


def test_limits_that_a_person_set_hold_where_answers_do_not_tell():
    done = run(both(Bucket), quotas={"tokens": TOKENS}, tells=False)
    assert 0.98 <= done.used("tokens") <= 1.005
    assert 0.0 == done.refused(since=0)


def test_a_quota_that_is_cut_into_seconds_is_used_to_the_full():
    done = run({"requests": Sliced(1_200.0)}, fixed(requests=1))
    assert done.used("requests") >= 0.98
    assert done.refused() <= 0.01


def test_large_requests_do_not_starve_small_ones_nor_waste_the_quota():
    done = run(both(Bucket), MIXED)
    assert done.used("tokens") >= 0.98
    assert max(done.fleet.waits) <= 10.0


def test_two_dimensions_that_bind_alternately_are_both_used():
    done = run(both(Bucket, requests=1_000.0), MIXED)
    assert done.used("requests") >= 0.98


def test_a_limit_that_is_halved_is_kept_at_once():
    async def halve(fleet: Fleet) -> None:
        await asyncio.sleep(120)
        for meter in fleet.provider.meters.values():
            meter.limit /= 2

    done = run(both(Bucket), meanwhile=halve, quotas={"tokens": TOKENS, "requests": 5_000.0})
    assert done.refused(120, 180) <= 0.02
    assert done.used("tokens", 150) / 0.5 >= 0.95


@pytest.mark.parametrize("kind", [Bucket, SlidingLog])
def test_a_key_that_another_program_uses_is_shared(kind: Kind):
    done = run(
        both(kind), fixed(requests=1, tokens=2_000), meanwhile=another_program(0.3), minutes=8
    )
    assert done.used("tokens", 60, 480) >= 0.95
    assert done.refused(60, 480) <= 0.02


@pytest.mark.parametrize("kind", [Bucket, SlidingLog])
def test_a_key_that_was_used_up_when_we_came_is_shared(kind: Kind):
    """The server never has much left: its refusals say that what it misses is real."""

    async def meanwhile(fleet: Fleet) -> None:
        now = asyncio.get_running_loop().time()
        fleet.provider.meters["tokens"].take(now, 0.95 * TOKENS)
        await another_program(0.3)(fleet)

    done = run(both(kind), fixed(requests=1, tokens=2_000), meanwhile=meanwhile, minutes=8)
    assert done.used("tokens", 60, 480) >= 0.95
    assert done.refused(60, 480) <= 0.02


def test_a_provider_that_refuses_everything_for_a_minute_is_called_seldom():
    async def go_down(fleet: Fleet) -> None:
        now = asyncio.get_running_loop().time()
        fleet.provider.down = lambda at: now + 60 <= at < now + 120

    done = run(both(Bucket), meanwhile=go_down)
    assert len(done.account.refused) <= 15
    assert done.used("tokens", 140) >= 0.98


@pytest.mark.parametrize("kind", [Bucket, SlidingLog])
def test_a_store_that_loses_everything_causes_no_burst(kind: Kind):
    async def lose(fleet: Fleet) -> None:
        for _ in range(3):
            await asyncio.sleep(50)
            fleet.store.forget()

    done = run(both(kind), meanwhile=lose)
    # Each loss may cost one request of a hundredth.
    assert 0.97 <= done.used("tokens") <= 1.005
    # On a log that is full, the request that comes an instant too early after each loss.
    assert len(done.account.refused) <= 3


def test_many_waiters_that_give_up_leave_the_rate_as_it_is():
    async def give_up(fleet: Fleet) -> None:
        for _ in range(40):
            waiting = [
                asyncio.create_task(fleet.send(fleet.first, {"tokens": 3_000})) for _ in range(10)
            ]
            await asyncio.sleep(3)
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    done = run(both(Bucket), meanwhile=give_up, minutes=2)
    assert 0.95 <= done.used("tokens", 30, 120) <= 1.005
    assert 0.0 == done.refused()

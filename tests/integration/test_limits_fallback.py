"""The limiter when Redis goes away, comes back, or comes back empty."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
import redis

from embedfleet_schema.store.limits import LimitBook, LimitName
from embedfleet_workers.embedding_errors import EmbedderBusy, StoreAway
from embedfleet_workers.rate_limits.registry import LimiterRegistry
from embedfleet_workers.rate_limits.stores import fallback_store, redis_script
from embedfleet_workers.rate_limits.stores.limit_store import DimensionState
from embedfleet_workers.rate_limits.stores.redis_store import RedisStore
from embedfleet_workers.stop import Stop

if TYPE_CHECKING:
    from plugins.tcp_proxy import ProxyMaker, TcpProxy

pytestmark = pytest.mark.usefixtures("patient")

ACCOUNT = "0123456789abcdef"
TOKENS = {"tokens": 1_000.0}
# 6,000 a minute: a request of ten seconds, so that a reservation stays visible.
BOOK = LimitBook({LimitName("openai", "", "model"): {"tokens": 6_000.0}}, {}, api_workers=4)


@pytest.fixture(autouse=True)
def seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """That Redis is back."""
    monkeypatch.setattr(fallback_store, "PAUSE_S", 0.05)


@pytest.fixture
def through(proxy: ProxyMaker, redis_url: str) -> tuple[TcpProxy, str]:
    return proxy(redis_url)


def made(url: str) -> LimiterRegistry:
    registry = LimiterRegistry(url, None, target=1.0)
    registry.book = BOOK
    return registry


async def in_tokens(registry: LimiterRegistry) -> DimensionState:
    limiter = registry.limiter("openai", "model", ACCOUNT)
    found = await limiter.store.snapshot(limiter.key)
    assert found is not None
    return found.dimensions["tokens"]


async def ahead(registry: LimiterRegistry) -> float:
    """Seconds that the queue is long: how far a request that comes now would have to wait."""
    return (await in_tokens(registry)).ahead_s


async def takes(registry: LimiterRegistry, seconds: float) -> bool:
    """Whether a request makes the empty queue so long."""
    began = time.monotonic()
    await (await registry.limiter("openai", "model", ACCOUNT).admit(TOKENS, max_wait_s=5)).settle()
    left_s = await ahead(registry)
    return seconds - (time.monotonic() - began) <= left_s <= seconds


@pytest.mark.parametrize("way", ["refuse", "stall"])
def test_while_redis_is_away_each_process_keeps_to_its_share(
    through: tuple[TcpProxy, str], way: str, monkeypatch: pytest.MonkeyPatch
):
    broken, url = through

    async def test() -> None:
        if way == "stall":
            monkeypatch.setattr(redis_script, "ANSWER_S", 1.5)
        registry = made(url)
        assert await takes(registry, 10.0)
        getattr(broken, way)()
        # A quarter of the rate, from an empty memory: a request takes four times as long.
        assert await takes(registry, 40.0)
        broken.heal()
        await asyncio.sleep(0.1)
        while await ahead(registry) > 10.0:
            await asyncio.sleep(0.05)
        await registry.close()

    asyncio.run(test())


def test_who_waits_by_memory_reserves_anew_when_redis_is_back(through: tuple[TcpProxy, str]):
    broken, url = through

    async def test() -> None:
        registry = made(url)
        limiter = registry.limiter("openai", "model", ACCOUNT)
        broken.refuse()
        first = await limiter.admit({"tokens": 100.0}, max_wait_s=5)
        waiting = asyncio.create_task(limiter.admit({"tokens": 100.0}, max_wait_s=60))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        broken.heal()
        admission = await asyncio.wait_for(waiting, 60)
        # Redis knows of its reservation, and not of the one that memory gave.
        assert 100.0 == (await in_tokens(registry)).used
        await admission.settle()
        await first.settle()
        await registry.close()

    asyncio.run(test())


def test_a_restarted_empty_redis_causes_no_burst(redis_url: str):
    async def test() -> list[float]:
        registry = made(redis_url)
        limiter = registry.limiter("openai", "model", ACCOUNT)
        moments: list[float] = []

        async def call() -> None:
            admission = await limiter.admit({"tokens": 20.0}, max_wait_s=60)
            # By the store's clock, in microseconds: an answer may be read late.
            moments.append(admission.reservation.answered_at / 1e6)

        waiting = [asyncio.create_task(call()) for _ in range(12)]
        while len(moments) < 4:
            await asyncio.sleep(0.01)
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
            client.script_flush()
        await asyncio.gather(*waiting)
        await registry.close()
        return moments

    moments = asyncio.run(test())
    # Twelve requests of 0.2 s; the loss may bring one forward.
    assert moments[-1] - moments[0] >= 0.2 * 10 - 0.05


def test_a_stop_is_heard_by_another_process(redis_url: str):
    async def test() -> None:
        one, other = made(redis_url), made(redis_url)
        limiter = other.limiter("openai", "model", ACCOUNT)
        await limiter.admit({"tokens": 6_000.0}, max_wait_s=5)
        waiting = asyncio.create_task(limiter.admit(TOKENS, max_wait_s=120))
        await asyncio.sleep(0.1)
        await one.limiter("openai", "model", ACCOUNT).stop(
            Stop("INSUFFICIENT_QUOTA", "no money is left")
        )
        with pytest.raises(EmbedderBusy, match="another process was refused"):
            # Its time would come after a minute.
            await asyncio.wait_for(waiting, 30)
        await one.close()
        await other.close()

    asyncio.run(test())


def test_the_store_alone_says_that_redis_is_away():
    async def test() -> None:
        store = RedisStore("redis://127.0.0.1:1/0")
        limiter = LimiterRegistry(None, None, store=store).limiter("openai", "model", ACCOUNT)
        with pytest.raises(StoreAway, match="ConnectionError"):
            await limiter.admit(TOKENS, max_wait_s=5.0)
        with pytest.raises(StoreAway):
            await store.keys()
        await store.close()

    asyncio.run(test())


def test_a_slot_that_was_given_back_while_redis_was_away_is_free_when_it_is_back(
    through: tuple[TcpProxy, str],
):
    broken, url = through
    book = LimitBook({LimitName("openai", "", "model"): {"concurrency": 1.0}}, {}, api_workers=4)

    async def test() -> None:
        registry = made(url)
        registry.book = book
        limiter = registry.limiter("openai", "model", ACCOUNT)
        admission = await limiter.admit(TOKENS, max_wait_s=5)
        broken.refuse()
        await admission.settle()
        mine = await limiter.admit(TOKENS, max_wait_s=5)
        # The only slot of memory is taken; whoever waits for it hears of Redis' return.
        waiting = asyncio.create_task(limiter.admit(TOKENS, max_wait_s=60))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        broken.heal()
        await asyncio.sleep(0.1)
        await ask(registry)
        await (await asyncio.wait_for(waiting, 60)).settle()
        await mine.settle()
        await registry.close()

    asyncio.run(test())


async def ask(registry: LimiterRegistry) -> None:
    """Any call finds out that Redis is back."""
    limiter = registry.limiter("openai", "model", ACCOUNT)
    await limiter.store.clock_state(limiter.key)

"""A provider and a fleet in virtual time: what a limiter is worth, before a socket is opened.

The provider keeps its own account, by its own rules; the figures come from there.
"""

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from embedfleet_schema.store.limits import LimitBook, LimitName
from embedfleet_workers.embedding_errors import EmbedderBusy
from embedfleet_workers.rate_limits.limiter import Limiter
from embedfleet_workers.rate_limits.quota import Amounts, Reading
from embedfleet_workers.rate_limits.registry import LimiterRegistry
from embedfleet_workers.rate_limits.stores.memory_store import MemoryStore

Costs = dict[str, float]


class Meter(Protocol):
    """How a provider counts one dimension; `wait` is None where there is room."""

    limit: float

    def wait(self, now: float, cost: float) -> float | None: ...
    def take(self, now: float, cost: float) -> None: ...
    def remaining(self, now: float) -> float: ...


class Bucket:
    """Refills all the time; `seconds` of the limit fit in."""

    def __init__(self, limit: float, seconds: float = 60.0) -> None:
        self.limit = limit
        self._seconds = seconds
        self._level = limit * seconds / 60
        self._at = 0.0

    def wait(self, now: float, cost: float) -> float | None:
        lacks = cost - self.remaining(now)
        return lacks * 60 / self.limit if lacks > 1e-6 else None

    def take(self, now: float, cost: float) -> None:
        self.remaining(now)
        self._level -= cost

    def remaining(self, now: float) -> float:
        refilled = self._level + max(0.0, now - self._at) * self.limit / 60
        self._level, self._at = min(refilled, self.limit * self._seconds / 60), now
        return self._level


class SlidingLog:
    """What was admitted within the last minute, to the unit."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._log: deque[tuple[float, float]] = deque()
        self._sum = 0.0

    def wait(self, now: float, cost: float) -> float | None:
        room = self.remaining(now)
        if cost <= room + 1e-6:
            return None
        for at, amount in self._log:
            room += amount
            if cost <= room + 1e-6:
                return at + 60 - now
        return 60.0

    def take(self, now: float, cost: float) -> None:
        self._log.append((now, cost))
        self._sum += cost

    def remaining(self, now: float) -> float:
        while self._log and self._log[0][0] <= now - 60:
            self._sum -= self._log.popleft()[1]
        return self.limit - self._sum


class FixedWindow:
    """So much in each minute of the provider's clock, nothing carried over."""

    seconds = 60.0

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._window, self._used = 0, 0.0

    def wait(self, now: float, cost: float) -> float | None:
        self._turn(now)
        if self._used + cost <= self.limit * self.seconds / 60 + 1e-6:
            return None
        return (self._window + 1) * self.seconds - now

    def take(self, now: float, cost: float) -> None:
        self._turn(now)
        self._used += cost

    def remaining(self, now: float) -> float:
        self._turn(now)
        return self.limit - self._used

    def _turn(self, now: float) -> None:
        if int(now // self.seconds) != self._window:
            self._window, self._used = int(now // self.seconds), 0.0


class Sliced(FixedWindow):
    """A sixtieth of the limit in each second of the provider's clock, or so much in longer slices.

    It tells a minute's figure: what is left of the slice is nobody's business.
    """

    def __init__(self, limit: float, seconds: float = 1.0) -> None:
        super().__init__(limit)
        self.seconds = seconds


@dataclass
class Account:
    """What the provider counted; `at` are the moments, for shares of a stretch of time."""

    admitted: list[tuple[float, Costs, str]] = field(default_factory=list)
    refused: list[tuple[float, str]] = field(default_factory=list)

    def used(self, name: str, since: float, until: float, who: str | None = None) -> float:
        return sum(
            costs.get(name, 0.0)
            for at, costs, by in self.admitted
            if since <= at < until and who in (None, by)
        )

    def refused_share(self, since: float, until: float, who: str = "fleet") -> float:
        refused = sum(since <= at < until and by == who for at, by in self.refused)
        admitted = sum(since <= at < until and by == who for at, _, by in self.admitted)
        return refused / max(1, refused + admitted)


class Provider:
    """Meters, an account of its own, and an answer after a while."""

    def __init__(
        self,
        meters: dict[str, Meter],
        *,
        seed: int = 0,
        arrival: tuple[float, float] = (0.01, 0.03),
        latency: tuple[float, float] = (0.02, 0.2),
        tells: bool = True,
        refused_count: tuple[str, ...] = (),
    ) -> None:
        self.meters = meters
        self.account = Account()
        self.down: Callable[[float], bool] = lambda now: False
        self._random = random.Random(seed)
        self._arrival, self._latency = arrival, latency
        self._tells = tells
        self._refused_count = refused_count

    async def call(self, costs: Costs, who: str = "fleet") -> tuple[float | None, Reading]:
        """The time to wait after a 429, None for an answer; and what the headers say."""
        await asyncio.sleep(self._random.uniform(*self._arrival))
        now = asyncio.get_running_loop().time()
        waits = [self.meters[name].wait(now, cost) for name, cost in costs.items()]
        needed = max((wait for wait in waits if wait is not None), default=None)
        if needed is None and self.down(now):
            needed = 1.0
        if needed is None:
            for name, cost in costs.items():
                self.meters[name].take(now, cost)
            self.account.admitted.append((now, costs, who))
        else:
            self.account.refused.append((now, who))
            for name in self._refused_count:
                self.meters[name].take(now, costs[name])
        reading = Reading(
            {name: meter.limit for name, meter in self.meters.items()},
            {name: max(0.0, meter.remaining(now)) for name, meter in self.meters.items()},
        )
        await asyncio.sleep(self._random.uniform(*self._latency))
        return needed, reading if self._tells else Reading()


@dataclass
class Fleet:
    """Processes of a fleet that send as fast as the limiter lets them."""

    provider: Provider
    store: MemoryStore
    registries: list[LimiterRegistry]
    limiter_name: tuple[str, str, str] = ("openai", "model", "account")
    waits: list[float] = field(default_factory=list)
    busy: int = 0

    @property
    def first(self) -> Limiter:
        return self.registries[0].limiter(*self.limiter_name)

    async def send(self, limiter: Limiter, costs: Costs, max_wait_s: float = 60.0) -> None:
        """One request until it is answered, as an embedder sends it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            try:
                admission = await limiter.admit(costs, max_wait_s=max_wait_s)
            except EmbedderBusy as busy:
                self.busy += 1
                await asyncio.sleep(busy.seconds)
                began = loop.time()
                continue
            try:
                retry_after, reading = await self.provider.call(costs)
            except asyncio.CancelledError:
                await admission.settle(timed=False)
                raise
            if retry_after is None:
                self.waits.append(loop.time() - began)
                await admission.settle(costs, reading)
                return
            await admission.rate_limited(retry_after, reading)

    async def work(self, seconds: float, slots: int, next_costs: Callable[[], Costs]) -> None:
        """`slots` requests at a time in every process, for so long."""
        until = asyncio.get_running_loop().time() + seconds

        async def slot(limiter: Limiter) -> None:
            while asyncio.get_running_loop().time() < until:
                await self.send(limiter, next_costs())

        await asyncio.gather(
            *(
                slot(registry.limiter(*self.limiter_name))
                for registry in self.registries
                for _ in range(slots)
            )
        )


@contextmanager
def simulated(
    provider: Provider, quotas: Amounts | None = None, processes: int = 4
) -> Iterator[Fleet]:
    """A fleet over one store; inside a running loop."""
    loop = asyncio.get_running_loop()
    store = MemoryStore(loop.time)
    registries = [LimiterRegistry(None, None, store=store) for _ in range(processes)]
    for each in registries:
        limit = LimitName("openai", "", "model")
        each.book = LimitBook({limit: dict(quotas)} if quotas else {})
    yield Fleet(provider, store, registries)


def fixed(**costs: float) -> Callable[[], Costs]:
    """Requests that are all alike."""
    return lambda: dict(costs)


def mixed(seed: int, *choices: tuple[float, Costs]) -> Callable[[], Costs]:
    """Requests drawn by weight."""
    drawn = random.Random(seed)
    weights = [weight for weight, _ in choices]
    return lambda: dict(drawn.choices([costs for _, costs in choices], weights)[0])


def by_second(account: Account, name: str) -> dict[int, float]:
    """What was admitted in each second, to look at."""
    found: dict[int, float] = defaultdict(float)
    for at, costs, _ in account.admitted:
        found[int(at)] += costs.get(name, 0.0)
    return found

"""Batches of a fleet in virtual time, through the code that cuts and sends them, to a provider that
states its quota in one of the ways that are in use.

What stands around that code is played here: a queue, slots that claim from it, and what becomes of
a batch that has to wait (`decide`). The figures come from the provider's own account.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import pytest

from embedfleet_schema.store.limits import LimitBook, LimitName
from embedfleet_schema.types import Kind, Space
from embedfleet_workers.cooling import LONGEST_S
from embedfleet_workers.decisions import Defer, cooling_s, decide
from embedfleet_workers.embedders.api import endpoint
from embedfleet_workers.embedders.api.answers import vectors_of
from embedfleet_workers.embedders.api.endpoint import Endpoint, Request
from embedfleet_workers.embedders.api.fan_out import FanOut, WaitPolicy
from embedfleet_workers.embedders.api.providers.adapter import Answer, Caps, Reply
from embedfleet_workers.embedders.api.providers.error_replies import error_reply
from embedfleet_workers.embedders.api.providers.headers import reading_of
from embedfleet_workers.embedders.protocol import Vectors
from embedfleet_workers.embedding_errors import EmbeddingError
from embedfleet_workers.rate_limits.quota import Amounts
from embedfleet_workers.rate_limits.registry import LimiterRegistry
from embedfleet_workers.rate_limits.stores.memory_store import MemoryStore
from plugins.simulated_fleets import Account, Bucket, FixedWindow, Meter, Sliced, SlidingLog
from plugins.virtual_time import run_in_virtual_time

Shape = Literal["bucket", "window", "log", "slices"]
Stated = Literal["all", "limits", "none", "body", "retry-after"]

# One number, 1.0, in base64 of float32.
VECTOR = "AACAPw=="
SPACE = Space("openai", "model", 1, 8_192)
# What the workers' tokenizer makes of a token of the provider's.
OURS = 1.07
BATCH_TOKENS = 65_536
FIRST_WAIT_S = 5.0
AT_ONCE = 8
# A quota is cut into seconds if one has room for so many texts.
TEXTS_A_SECOND = 40
# A batch that is free is claimed after the way of a doorbell.
RING_S = 0.05


@dataclass(frozen=True)
class Quota:
    """So many requests and tokens a minute, in texts of about so many tokens."""

    requests: float
    tokens: float
    text: int = 150

    def __str__(self) -> str:
        return f"{self.requests:g}/{self.tokens:g}"

    @property
    def amounts(self) -> dict[str, float]:
        return {"requests": self.requests, "tokens": self.tokens}

    def meters(self, shape: Shape) -> dict[str, Meter]:
        return {name: self._meter(shape, limit) for name, limit in self.amounts.items()}

    def _meter(self, shape: Shape, limit: float) -> Meter:
        match shape:
            case "bucket":
                return Bucket(limit)
            case "window":
                return FixedWindow(limit)
            case "log":
                return SlidingLog(limit)
        return Sliced(limit, self.slice_s)

    @property
    def slice_s(self) -> float:
        """A second; ten where a second would hold a few texts; more where it would hold none."""
        seconds = 1.0 if self.tokens >= 60 * TEXTS_A_SECOND * self.text else 10.0
        return max(seconds, 60.0 / self.requests)


@cache
def counted(text: str) -> int:
    return math.ceil(int(text) * OURS)


@cache
def answered(count: int) -> Vectors:
    """What the answer to so many texts holds: it is always the same, and read once."""
    return vectors_of([(row, VECTOR) for row in range(count)], count, SPACE)


class ShapedProvider:
    """The adapter of a provider in virtual time: OpenAI's dialect, real headers and bodies."""

    caps = Caps(inputs=2_048, tokens=300_000)

    def __init__(self, quota: Quota, shape: Shape, stated: Stated, *, seed: int = 1) -> None:
        self.quota = quota
        self.account = Account()
        self._meters = quota.meters(shape)
        self._stated = stated
        self._random = random.Random(seed)

    def use_up(self, now: float) -> None:
        for meter in self._meters.values():
            meter.take(now, meter.remaining(now))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [counted(text) for text in texts]

    def costs(self, tokens: Sequence[int]) -> Amounts:
        return {"requests": 1, "tokens": sum(tokens)}

    async def send(self, texts: Sequence[str], kind: Kind) -> Reply:
        await asyncio.sleep(self._random.uniform(0.01, 0.03))
        now = asyncio.get_running_loop().time()
        costs = {"requests": 1.0, "tokens": float(sum(map(int, texts)))}
        waits = {name: meter.wait(now, costs[name]) for name, meter in self._meters.items()}
        short = {name: wait for name, wait in waits.items() if wait is not None}
        if short:
            self.account.refused.append((now, "fleet"))
            name = max(short, key=lambda each: short[each])
            reply = self._refused(name, now, costs[name], short[name])
        else:
            for name, cost in costs.items():
                self._meters[name].take(now, cost)
            self.account.admitted.append((now, costs, "fleet"))
            items = [(row, VECTOR) for row in range(len(texts))]
            reply = Answer(items, int(costs["tokens"]), reading_of(self._headers(now)))
        await asyncio.sleep(self._random.uniform(0.02, 0.2))
        return reply

    def _refused(self, name: str, now: float, cost: float, wait_s: float) -> Reply:
        headers, said = self._headers(now), "Too many requests"
        if self._stated != "none":
            # Whole seconds, and one to be sure of a longer wait.
            headers["retry-after"] = str(math.ceil(wait_s) + (wait_s > 1))
        if self._stated == "body":
            limit, left = self._meters[name].limit, max(0.0, self._meters[name].remaining(now))
            said = (
                f"Rate limit reached for model on {name} per min ({name[0].upper()}PM): "
                f"Limit {limit:.0f}, Used {limit - left:.0f}, Requested {cost:.0f}. "
                f"Please try again in {wait_s:.3f}s."
            )
            del headers["retry-after"]
        return error_reply(429, headers, b'{"error": {"message": "%b"}}' % said.encode())

    def _headers(self, now: float) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, meter in self._meters.items():
            if self._stated in ("all", "limits"):
                found[f"x-ratelimit-limit-{name}"] = f"{meter.limit:.0f}"
            if self._stated == "all":
                found[f"x-ratelimit-remaining-{name}"] = f"{max(0, int(meter.remaining(now)))}"
        return found


@dataclass
class Queue:
    """Batches that wait, each with the time from which on it may be claimed."""

    quota: Quota
    most: int
    waiting: list[tuple[float, int, list[str]]] = field(default_factory=list)
    made: int = 0
    out: int = 0
    random: random.Random = field(default_factory=lambda: random.Random(7))

    def claim(self, now: float) -> list[str] | None:
        """The batch that has waited longest, or a new one as long as there are few."""
        self.waiting.sort()
        if self.waiting and self.waiting[0][0] <= now:
            self.out += 1
            return self.waiting.pop(0)[2]
        if self.out + len(self.waiting) >= self.most:
            return None
        self.out += 1
        return self._packed()

    def put_back(self, texts: list[str], at: float) -> None:
        self.made += 1
        self.waiting.append((at, self.made, texts))

    def next_at(self, now: float) -> float:
        return min((at for at, _, _ in self.waiting), default=now + 5.0)

    def _packed(self) -> list[str]:
        """Texts of half to one and a half of the usual size, up to the budget of a batch."""
        half, texts, held = self.quota.text // 2, [], 0.0
        while held < BATCH_TOKENS - 2 * OURS * self.quota.text:
            texts.append(str(self.quota.text + self.random.randint(-half, half)))
            held += OURS * int(texts[-1])
        return texts


@dataclass
class Process:
    """A worker process: what it knows of the limit, and the slots that share that."""

    registry: LimiterRegistry
    endpoint: Endpoint
    queue: Queue
    cools_until: float = 0.0
    charged: int = 0

    async def slot(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        while (now := loop.time()) < until:
            texts = self.queue.claim(now) if now >= self.cools_until else None
            if texts is None:
                wake = max(self.cools_until, self.queue.next_at(now), now) + RING_S
                await asyncio.sleep(min(wake, until) - now)
                continue
            await self._embed(texts)

    async def _embed(self, texts: list[str]) -> None:
        """One batch, and what `Pipeline` makes of its end."""
        done: set[int] = set()
        whole = Request(range(len(texts)), texts, self.endpoint.adapter.count_tokens(texts))
        fan_out = FanOut(
            self.endpoint,
            whole,
            "document",
            WaitPolicy(FIRST_WAIT_S, "bulk"),
            lambda part: done.update(part.rows),
        )
        after_s = 0.0
        try:
            await fan_out.run(AT_ONCE)
        except EmbeddingError as error:
            found = decide(error, texts=len(texts), errors=0, max_attempts=5)
            self.charged += not isinstance(found, Defer)
            after_s = found.after_s if isinstance(found, Defer) else 1.0
            now = asyncio.get_running_loop().time()
            cools = min(cooling_s(error), LONGEST_S)
            self.cools_until = max(self.cools_until, now + cools if cools else 0.0)
        self.queue.out -= 1
        if len(done) < len(texts):
            left = [text for row, text in enumerate(texts) if row not in done]
            self.queue.put_back(left, asyncio.get_running_loop().time() + after_s)


@dataclass(frozen=True)
class Shown:
    """What is to be seen after a run."""

    provider: ShapedProvider
    store: MemoryStore
    processes: Sequence[Process]
    began: float

    def used(self, name: str, since: float, until: float) -> float:
        quota = self.provider.quota.amounts[name] * (until - since) / 60
        return self.provider.account.used(name, self.began + since, self.began + until) / quota

    def binding(self, since: float, until: float) -> float:
        """The share that was used of the quota that was used most."""
        return max(self.used(name, since, until) for name in ("requests", "tokens"))

    def refused(self, since: float, until: float) -> int:
        began = self.began
        return sum(began + since <= at < began + until for at, _ in self.provider.account.refused)


def run_batches(
    quota: Quota,
    shape: Shape,
    stated: Stated,
    *,
    told: Mapping[str, float] | None = None,
    minutes: float,
    processes: int = 2,
    slots: int = 4,
    seed: int = 1,
    wiped_at: Sequence[float] = (),
    used_up: bool = False,
) -> Shown:
    """Some minutes of a fleet that has more to do than its quota allows.

    `told` is what a person set, and at the seconds of `wiped_at` the store loses everything.
    `used_up`: nothing of the quota is left when the fleet comes.
    """

    async def main() -> Shown:
        loop = asyncio.get_running_loop()
        provider = ShapedProvider(quota, shape, stated, seed=seed)
        if used_up:
            provider.use_up(loop.time())
        store = MemoryStore(loop.time)
        queue = Queue(quota, most=2 * processes * slots)
        made = [_process(provider, store, queue, told) for _ in range(processes)]
        began = loop.time()
        until = began + 60 * minutes
        running = [asyncio.create_task(each.slot(until)) for each in made for _ in range(slots)]
        for moment in (*wiped_at, 60 * minutes):
            await asyncio.sleep(began + moment - loop.time())
            if moment in wiped_at:
                store.forget()
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        return Shown(provider, store, made, began)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endpoint, "vectors_of", lambda _items, count, _space: answered(count))
        return run_in_virtual_time(main())


def _process(
    provider: ShapedProvider, store: MemoryStore, queue: Queue, told: Mapping[str, float] | None
) -> Process:
    registry = LimiterRegistry(None, None, store=store)
    registry.book = LimitBook({LimitName("openai", "", "model"): dict(told)} if told else {})
    return Process(registry, Endpoint(SPACE, provider, "account", registry, 60.0), queue)

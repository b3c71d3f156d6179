"""How many reservations a second the limiter gives: many processes, one key, two dimensions.

Each process keeps a few requests asking at the same time, as the slots of a worker do: first as
fast as they can, where times are those of a queue, then at a rate that leaves the machine room.
Prints the rate, the times of one reservation as the callers see them, and what bounds it: the time
that Valkey spent, in all and in the script, and the time that the clients spent.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import time
from typing import Any

import numpy as np
import redis

from _scratch import machine, scratch_fleet
from embedfleet_workers.rate_limits.quota import LimitKey
from embedfleet_workers.rate_limits.stores.limit_store import Reservation
from embedfleet_workers.rate_limits.stores.redis_store import RedisStore

KEY = LimitKey("openai", "0123456789abcdef", "text-embedding-3-small")
# So high that nobody has to wait: it is the limiter that is measured, not a limit.
COSTS = {"requests": 1.0, "tokens": 500.0}
QUOTAS = {"requests": 1e9, "tokens": 1e12}


async def reserve(store: RedisStore) -> Reservation:
    found = await store.reserve(KEY, COSTS, quotas=QUOTAS, stated={}, target=0.985, max_wait_s=60.0)
    assert isinstance(found, Reservation)
    return found


async def reserve_on(store: RedisStore, seconds: float, slots: int, every: float) -> list[float]:
    """Seconds of each reservation until the time is over; `every` is the time between two."""
    until = time.monotonic() + seconds
    took: list[float] = []

    async def slot() -> None:
        # Nobody begins at the same moment as everybody else.
        await asyncio.sleep(random.uniform(0.0, every))
        while (began := time.monotonic()) < until:
            found = await reserve(store)
            took.append(time.monotonic() - began)
            assert found.wait_s == 0
            if every:
                await asyncio.sleep(max(0.0, every * random.uniform(0.5, 1.5) - took[-1]))

    await asyncio.gather(*(slot() for _ in range(slots)))
    return took


async def connected(
    url: str, seconds: float, slots: int, every: float, barrier: Any
) -> tuple[list[float], float]:
    """The times, and the processor's seconds that they took; connecting is not among them."""
    store = RedisStore(url)
    await reserve(store)
    barrier.wait()
    before = time.process_time()
    took = await reserve_on(store, seconds, slots, every)
    spent = time.process_time() - before
    await store.close()
    return took, spent


def process(url: str, seconds: float, slots: int, every: float, barrier: Any, results: Any) -> None:
    random.seed(os.getpid())
    results.put(asyncio.run(connected(url, seconds, slots, every, barrier)))


def spent(client: redis.Redis) -> tuple[float, float, int]:
    """Seconds of processor time of the server, seconds in the script, and its calls."""
    used = client.info("cpu")
    script = client.info("commandstats").get("cmdstat_evalsha", {"usec": 0, "calls": 0})
    cpu = used["used_cpu_user"] + used["used_cpu_sys"]
    return cpu, script["usec"] / 1e6, script["calls"]


def measure(url: str, processes: int, slots: int, seconds: float, rate: float = 0.0) -> None:
    context = multiprocessing.get_context("fork")
    every = processes * slots / rate if rate else 0.0
    barrier, results = context.Barrier(processes + 1), context.Queue()
    running = [
        context.Process(target=process, args=(url, seconds, slots, every, barrier, results))
        for _ in range(processes)
    ]
    for each in running:
        each.start()
    with redis.Redis.from_url(url) as client:
        barrier.wait()
        before, began = spent(client), time.monotonic()
        answers = [results.get() for _ in running]
        lasted = time.monotonic() - began
        after = spent(client)
    for each in running:
        each.join()
    times = np.array([one for took, _ in answers for one in took]) * 1e3
    calls = max(1, after[2] - before[2])
    p50, p99 = np.percentile(times, [50, 99])
    asked = f" at {rate:,.0f} a second" if rate else ""
    print(
        f"{processes} processes x {slots} at once{asked}: {len(times) / seconds:,.0f} reserves/s, "
        f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"
    )
    print(
        f"  of {lasted * len(os.sched_getaffinity(0)):.1f} s of processor time: Valkey "
        f"{after[0] - before[0]:.1f} s ({(after[1] - before[1]) / calls * 1e6:.0f} us a call in "
        f"the script), clients {sum(cpu for _, cpu in answers):.1f} s "
        f"({sum(cpu for _, cpu in answers) / len(times) * 1e6:.0f} us a call)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=64)
    parser.add_argument("--slots", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--rate", type=float, default=1_000.0, help="of the last, unhurried round")
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    print(machine())
    with scratch_fleet() as fleet:
        _ = fleet.collections()
        for slots in options.slots:
            measure(fleet.settings.redis, options.processes, slots, options.seconds)
        measure(fleet.settings.redis, options.processes, 1, options.seconds, options.rate)


if __name__ == "__main__":
    main()

"""What a run stands on: a scratch fleet, a provider, worker processes, and what they are doing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

import embedfleet as ef
from _scratch import scratch_fleet
from embedfleet.stack import status, up
from embedfleet_schema.store.limits import LimitName, set_limits
from plugins.provider_server.process import ProviderServer
from plugins.provider_server.texts import texts

ROOT = Path(__file__).parents[2]
SKEWED = ROOT / "tests/faults/skewed_clock"
MODEL = "openai/bench-model"
DIMENSIONS = 64
MAX_TOKENS = 8_192
SLOTS = 8
KEY = "a-key-of-the-benchmark"


class Worker:
    """An `embedfleet worker` on the queue `api`, with its log."""

    def __init__(self, log: Path, variables: Mapping[str, str]) -> None:
        self.log = log
        command = [sys.executable, "-m", "embedfleet", "worker", "--queue", "api"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "--concurrency", str(SLOTS)],
                env={**os.environ, **variables},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(30)

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)


class Stand:
    """One run: what its events may touch, and the figures that they leave."""

    def __init__(
        self,
        fleet: ef.Fleet,
        provider: ProviderServer,
        *,
        seed: int,
        settings: Mapping[str, Any],
        skews: Sequence[int],
    ) -> None:
        self.fleet = fleet
        self.provider = provider
        self.seed = seed
        self.random = random.Random(seed)
        self.workers: list[Worker] = []
        self.figures: dict[str, float] = {}
        # Whatever an event tells the one that comes after it.
        self.notes: dict[str, Any] = {}
        self._settings = settings
        self._skews = skews
        self._started = 0

    @property
    def logs(self) -> list[Path]:
        return sorted(self.fleet.settings.data.parent.glob("worker-*.log"))

    def start_workers(self, count: int) -> None:
        for _ in range(count):
            log = self.fleet.settings.data.parent / f"worker-{self._started}.log"
            skew = self._skews[self._started % len(self._skews)]
            self.workers.append(Worker(log, self._variables(skew)))
            self._started += 1

    def wait_for_workers(self) -> None:
        ours = {worker.pid for worker in self.workers}
        wait_until(lambda: ours <= {worker.pid for worker in self.fleet.workers()})

    def end_workers(self) -> None:
        for worker in self.workers:
            worker.process.send_signal(signal.SIGTERM)
        for worker in self.workers:
            worker.end()

    def enqueue(self, name: str, model: str, count: int, words: Sequence[int]) -> ef.Job:
        docs = self.fleet.collection(
            name, model=model, dimensions=DIMENSIONS, max_tokens=MAX_TOKENS
        )
        found = texts((self.seed, name), count, words)
        return docs.enqueue(ef.Document(f"d{n}", chunks=[text]) for n, text in enumerate(found))

    def tell_limits(self, model: str, limits: Mapping[str, float]) -> None:
        """As a person does with `embedfleet limits set`."""
        provider, _, name = model.partition("/")
        set_limits(self.fleet.db, LimitName(provider, "", name), limits)

    def ask(self, statement: str, *values: object) -> list[Any]:
        with self.fleet.db.transaction() as conn:
            return conn.execute(statement, values).fetchall()

    def restart_valkey_empty(self) -> None:
        import redis

        with redis.Redis.from_url(self.fleet.settings.redis) as client:
            client.flushall()
        found = status(self.fleet.settings.data).valkey
        assert found is not None
        valkey = psutil.Process(found.pid)
        valkey.kill()
        psutil.wait_procs([valkey], timeout=10)
        up(self.fleet.settings.data)

    def _variables(self, skew: int) -> dict[str, str]:
        given = self.fleet.settings
        found = {
            "EMBEDFLEET_DATABASE_URL": given.database,
            "EMBEDFLEET_REDIS_URL": given.redis,
            "EMBEDFLEET_DATA": str(given.data),
            "EMBEDFLEET_OPENAI_API_KEY": KEY,
            "EMBEDFLEET_OPENAI_BASE_URL": self.provider.url,
            "EMBEDFLEET_MISTRAL_BASE_URL": self.provider.url.removesuffix("/v1"),
            "PYTHONPATH": "",
            **{f"EMBEDFLEET_{name.upper()}": str(value) for name, value in self._settings.items()},
        }
        if skew:
            found |= {"PYTHONPATH": str(SKEWED), "SKEW_S": str(skew)}
        return found


@contextmanager
def stand(
    *, seed: int, provider: Mapping[str, Any], settings: Mapping[str, Any], skews: Sequence[int]
) -> Iterator[Stand]:
    server = ProviderServer(seed=seed, **provider)
    try:
        with scratch_fleet(**settings) as fleet:
            found = Stand(fleet, server, seed=seed, settings=settings, skews=skews)
            try:
                yield found
            finally:
                found.end_workers()
    finally:
        server.close()


def wait_until(condition: Any, *, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s: {condition}")
        time.sleep(0.05)

"""A Valkey server with the users of docs/security.md, and every step of the limiter over it."""

import asyncio
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from embedfleet.stack.ports import candidates
from embedfleet.stack.wheels import valkey_program
from embedfleet_schema.redis_url import PREFIX, PrefixedUrl
from embedfleet_workers.rate_limits.quota import Reading
from embedfleet_workers.rate_limits.stores.limit_store import Penalty
from embedfleet_workers.rate_limits.stores.redis_store import RedisStore
from embedfleet_workers.stop import Stop
from plugins.documents import ROOT, blocks
from plugins.limiter_reservations import LIMIT, Cost, asked
from plugins.worker_processes import eventually

SECRET = "SECRET"  # noqa: S105 - the page's own word
# Only the test sends these.
OURS = {"acl|log", "config|resetstat", "keys"}


def users(prefix: str = PREFIX) -> dict[str, list[str]]:
    """The rules of each user, by name, as the page gives them; for another prefix of the keys."""
    calls = [
        shlex.split(line.replace(f"{PREFIX}:", f"{prefix}:"))
        for block in blocks(ROOT / "docs/security.md", "sh")
        for line in block.text.replace("\\\n", " ").splitlines()
        if line.startswith("valkey-cli ACL SETUSER ")
    ]
    return {name: rules for _, _, _, name, *rules in calls}


def granted(user: str) -> set[str]:
    return {rule[1:] for rule in users()[user] if rule.startswith("+")}


@dataclass(frozen=True)
class Broker:
    """A Valkey server with the users of the page."""

    port: int
    prefix: str

    def url(self, user: str) -> str:
        return PrefixedUrl(f"redis://{user}:{SECRET}@127.0.0.1:{self.port}/0", self.prefix)

    def client(self, user: str = "default") -> redis.Redis:
        return redis.Redis.from_url(str(self.url(user)))

    def answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    def used(self) -> set[str]:
        """The commands that were called since the last time that somebody asked."""
        with self.client() as client:
            calls = client.info("commandstats")
            client.config_resetstat()
        called = {name.removeprefix("cmdstat_") for name, each in calls.items() if each["calls"]}
        return called - {"hello", "auth"} - OURS

    def denied(self) -> list[dict[str, object]]:
        with self.client() as client:
            return client.acl_log()


@contextmanager
def serving(
    folder: Path, prefix: str = PREFIX, more: Mapping[str, object] | None = None
) -> Iterator[Broker]:
    """The server; `more` are options of its own."""
    lines = [f"user {name} {' '.join(rules)}" for name, rules in users(prefix).items()]
    acl = folder / "users.acl"
    acl.write_text("\n".join([f"user default on >{SECRET} ~* &* +@all", *lines, ""]))
    port = next(candidates(None))
    options = {"port": port, "bind": "127.0.0.1", "aclfile": acl, "dir": folder, "save": ""}
    options |= more or {}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with (folder / "valkey.log").open("wb") as log:
        server = subprocess.Popen([valkey_program(), *words], stdout=log)
    broker = Broker(port, prefix)
    try:
        eventually(broker.answers)
        yield broker
    finally:
        server.terminate()
        server.wait(30)


async def take_every_step(url: str) -> None:
    priced, costs = asked({"requests": Cost(1.0, quota=600.0)}), {"requests": 1.0}
    # What is older than a minute is cleared away.
    before = RedisStore(url, clock=lambda: time.time() - 100.0)
    await before.reserve(LIMIT, **priced, target=1.0, max_wait_s=60.0)
    await before.close()
    store = RedisStore(url)
    now, later = [
        await store.reserve(LIMIT, **priced, target=1.0, max_wait_s=60.0) for _ in range(2)
    ]
    await store.confirm(LIMIT, later, costs)
    await store.refund(LIMIT, later, costs, sent=False)
    await store.settle(LIMIT, now, costs, Reading({"requests": 600.0}, {"requests": 595.0}))
    await store.penalize(LIMIT, now, costs, Reading(), Penalty(0.01))
    held = await store.acquire(LIMIT, "one", slots=1, lease_s=60.0, wait_s=1.0)
    waiting = asyncio.create_task(store.acquire(LIMIT, "two", slots=1, lease_s=60.0, wait_s=60.0))
    while not (seen := await store.snapshot(LIMIT)) or not seen.waiting:
        await asyncio.sleep(0.01)
    await store.release(LIMIT, "one", slots=1)
    assert held
    assert await waiting
    await store.stop(LIMIT, Stop("INSUFFICIENT_QUOTA", "no money is left"), "a test")
    await store.clock_state(LIMIT)
    await store.resume(LIMIT)
    assert [LIMIT] == await store.keys()
    await store.close()

"""A console served over real HTTP in the process of a test, beside a worker of the fake model."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2
import pytest
import uvicorn

from embedfleet.fleet import Fleet
from embedfleet.web.console import Console
from embedfleet.web.serving import Address, config
from embedfleet_workers.runtime import Runtime
from plugins.fleets import small_fleet, workers_of
from plugins.servers import fresh_database
from plugins.worker_processes import eventually

EVERYTHING = ("embeddings", "search", "documents")
# Nothing of these is asked in a hurry.
PER_MINUTE = 1_000_000


@dataclass
class Served:
    """A console at `url`, and its fleet with one worker."""

    fleet: Fleet
    worker: Runtime
    console: Console
    url: str

    def key(self, name: str, *scopes: str, per_minute: int = PER_MINUTE, **options: object) -> str:
        key, _ = self.fleet.api_keys.create(
            name, scopes or EVERYTHING, per_minute=per_minute, **options
        )
        return key

    def client(self, key: str | None = None) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=120)


@contextmanager
def serving(console: Console, **address: object) -> Iterator[str]:
    """The URL of a console until the end of the block."""
    server = uvicorn.Server(config(console, Address(port=0, **address)))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive())
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


@contextmanager
def served(stack, template: str, fill: Callable[[Fleet], None]) -> Iterator[Served]:
    """A database of its own, what `fill` makes in it, a worker that has embedded it, a console."""
    with (
        fresh_database(stack, template) as url,
        small_fleet(url, stack.redis_url) as fleet,
        workers_of(fleet) as make,
    ):
        worker = make()
        fill(fleet)
        for collection in fleet.collections():
            worker._embedder_of(collection.info.space, "cpu")
        while worker.run_one("cpu") != "idle":
            pass
        eventually(fleet.workers)
        console = Console(fleet)
        with serving(console) as address:
            yield Served(fleet, worker, console, address)


def served_with(fill: Callable[[Fleet], None]) -> Callable[..., Iterator[Served]]:
    """`door` of a module: one console for all of its tests, over what `fill` makes."""

    @pytest.fixture(scope="module")
    def door(stack, template_database):
        with served(stack, template_database, fill) as found:
            yield found

    return door

"""Fleets whose texts go to a provider process, and workers for them inside the test."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pytest
import redis
from psycopg import sql
from pydantic import SecretStr

from embedfleet.collection import Collection
from embedfleet.fleet import Fleet
from embedfleet.job import Job
from embedfleet_schema.statements import composed
from embedfleet_schema.store.limits import LimitName, set_limits
from embedfleet_schema.types import Document
from embedfleet_workers.runtime import Launch, Runtime
from plugins.provider_server.answers import vectors_of
from plugins.provider_server.process import ProviderServer
from plugins.provider_server.texts import texts

NAME = "bench-model"
MODEL = f"openai/{NAME}"
DIMENSIONS = 64
MAX_TOKENS = 8_192
KEY = "a-key"
# Refused where a provider is told to refuse it.
BAD_KEY = "a-key-that-is-refused"
BAD_MODEL = "mistral/other-model"
IDLE_S = 0.05
# Vectors are normalized once more on their way, which may cost a last bit.
TOLERANCE = 1e-6


class ApiFleet:
    """A fleet, and the provider that its collection "docs" is embedded by."""

    def __init__(self, fleet: Fleet, provider: ProviderServer) -> None:
        self.fleet = fleet
        self.provider = provider

    def tell_limits(self, **limits: float) -> None:
        """As a person does with `embedfleet limits set`."""
        set_limits(self.fleet.db, LimitName("openai", "", NAME), limits)

    def enqueue(
        self, count: int, *, words: int = 100, model: str = MODEL, name: str = "docs"
    ) -> Job:
        docs = self.fleet.collection(
            name, model=model, dimensions=DIMENSIONS, max_tokens=MAX_TOKENS
        )
        found = texts(name, count, (words,))
        return docs.enqueue(Document(f"d{n}", chunks=[text]) for n, text in enumerate(found))

    def counts(self, model: str = NAME) -> dict[str, int]:
        """The provider's account of a model."""
        found: dict[str, int] = self.provider.account()["models"][model]
        return found

    def variables(self) -> dict[str, str]:
        """Settings for worker processes on the queue of this fleet."""
        return {
            "queue": "api",
            "openai_api_key": KEY,
            "openai_base_url": self.provider.url,
            "mistral_api_key": BAD_KEY,
            "mistral_base_url": self.provider.url.removesuffix("/v1"),
        }

    def forget_limiter(self) -> None:
        """Redis loses everything."""
        with redis.Redis.from_url(self.fleet.settings.redis) as client:
            client.flushall()

    @contextmanager
    def working(self, *, processes: int = 2, slots: int = 4) -> Iterator[None]:
        """Workers that have everything of their own but the process."""
        launch = Launch(("api",), 1, slots)
        runtimes = [Runtime(self.fleet.settings, launch) for _ in range(processes)]
        ended = threading.Event()

        def work(runtime: Runtime) -> None:
            while not ended.is_set():
                if runtime.run_one("api") in ("idle", "paused", "unreachable"):
                    ended.wait(IDLE_S)

        threads = [
            threading.Thread(target=work, args=(runtime,))
            for runtime in runtimes
            for _ in range(slots)
        ]
        for runtime in runtimes:
            runtime.start()
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()
            for runtime in runtimes:
                runtime.stop()


def wrong_rows(collection: Collection, fleet: Fleet) -> int:
    """Stored vectors that are not those of their texts."""
    statement = composed(
        sql.SQL(
            "SELECT sha256(convert_to(t.content, 'UTF8')), v.embedding"
            " FROM embedfleet.{vectors} AS v JOIN embedfleet.{texts} AS t ON t.id = v.text_id"
        ),
        collection.info,
    )
    with fleet.db.transaction() as conn:
        rows = conn.execute(statement).fetchall()
    expected = vectors_of([bytes(digest) for digest, _ in rows], DIMENSIONS)
    found = np.array([vector.to_numpy() for _, vector in rows], dtype=np.float32)
    return int((np.abs(found - expected).max(axis=1) > TOLERANCE).sum())


ApiFleetMaker = Callable[..., ApiFleet]


@pytest.fixture
def api_fleet(fleet: Fleet, provider: Callable[..., ProviderServer]) -> Iterator[ApiFleetMaker]:
    """Makes the fleet of a test: options are the provider's, `settings` the fleet's."""
    opened: list[Fleet] = []

    def make(settings: Mapping[str, object] | None = None, **options: object) -> ApiFleet:
        server = provider(**options)
        given = {
            "openai_api_key": SecretStr(KEY),
            "openai_base_url": server.url,
            "mistral_api_key": SecretStr(BAD_KEY),
            "mistral_base_url": server.url.removesuffix("/v1"),
            **(settings or {}),
        }
        opened.append(Fleet(fleet.settings.model_copy(update=given)))
        return ApiFleet(opened[-1], server)

    yield make
    for each in opened:
        each.close()

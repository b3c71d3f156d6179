"""Workers of the queue api inside the test, and a provider that speaks a dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import psycopg
import pytest
from pydantic import SecretStr

from embedfleet.collection import Collection
from embedfleet.fleet import Fleet
from embedfleet_workers.runtime import Launch, Runtime
from plugins.provider_dialects import KEY, DialectServer

ApiWorkerMaker = Callable[..., Runtime]


@pytest.fixture
def api_worker(fleet: Fleet) -> Iterator[ApiWorkerMaker]:
    """Makes workers that call a server of the test as their one provider."""
    started: list[Runtime] = []

    def make(server: DialectServer, **settings: object) -> Runtime:
        runtime = Runtime(
            fleet.settings.model_copy(update={**account(server), **settings}),
            Launch(("api",), 1, 1),
        )
        runtime.start()
        started.append(runtime)
        return runtime

    yield make
    for runtime in started:
        runtime.stop()


def account(server: DialectServer) -> dict[str, object]:
    """The settings that lead to this server."""
    provider = server.dialect.provider
    return {f"{provider}_api_key": SecretStr(KEY), f"{provider}_base_url": server.url}


def stored(fleet: Fleet, docs: Collection) -> tuple[list[str], np.ndarray]:
    """What the view of a collection holds: contents in their order, and their vectors."""
    with psycopg.connect(fleet.settings.direct_database) as conn:
        rows = conn.execute(
            f"SELECT content, embedding::real[] FROM embedfleet.{docs.name} ORDER BY content"
        ).fetchall()
    return [content for content, _ in rows], np.array([vector for _, vector in rows])

"""Fleets over a fresh, migrated database, and workers that run inside the test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from embedfleet.collection import Collection
from embedfleet.fleet import Fleet
from embedfleet.stack import Endpoints
from embedfleet_schema.migrate import migrate
from embedfleet_schema.settings import load_settings
from embedfleet_schema.statements import composed
from embedfleet_schema.store import jobs, requeue
from embedfleet_schema.store.batches import Batches
from embedfleet_schema.types import Document
from embedfleet_workers.runtime import Launch, Runtime
from plugins.managed import Owner
from plugins.servers import fresh_database

WorkerMaker = Callable[..., Runtime]


@pytest.fixture(scope="session")
def template_database(stack: Endpoints, owner: Owner) -> str:
    """The name of a database with our tables, to be copied: quicker than migrating each."""
    name = f"template_{uuid4().hex}"
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        create = sql.SQL("CREATE DATABASE {} OWNER {}")
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(owner.name)))
    owner.prepare(name)
    migrate(url := owner.url(name))
    # Whoever connects first leaves a cache of the catalog behind, which is copied along.
    psycopg.connect(url).close()
    return name


@pytest.fixture(scope="module")
def copied_database(template_database: str) -> str:
    """The name of the database that each test gets a copy of: our tables without a row, or what a
    module of tests fills once: `copied_database = filled_by(fill)`.
    """
    return template_database


@pytest.fixture
def migrated_url(
    stack: Endpoints, copied_database: str, owner: Owner, pooled: Callable[[str], str]
) -> Iterator[str]:
    """The URL of a fresh database with our tables."""
    with fresh_database(stack, copied_database, owner) as url:
        yield pooled(url)


def small_fleet(database_url: str, redis_url: str) -> Fleet:
    """With small batches, so that few documents make several."""
    settings = load_settings(
        database_url=database_url,
        redis_url=redis_url,
        batch_tokens_cpu=64,
        lease_seconds=10.0,
        heartbeat_seconds=0.5,
    )
    return Fleet(settings)


@contextmanager
def filled_database(
    stack: Endpoints, template: str, owner: Owner, fill: Callable[[Fleet, WorkerMaker], None]
) -> Iterator[str]:
    """The name of a database that was filled once, to be copied for tests of the same rows."""
    with fresh_database(stack, template, owner) as url:
        with small_fleet(url, stack.redis_url) as fleet, workers_of(fleet) as worker:
            fill(fleet, worker)
        yield urlsplit(url).path.removeprefix("/")


def filled_by(fill: Callable[[Fleet, WorkerMaker], None]) -> Callable[..., Iterator[str]]:
    """`copied_database` of a module whose tests all begin with the rows that `fill` makes."""

    @pytest.fixture(scope="module")
    def copied_database(stack: Endpoints, template_database: str, owner: Owner) -> Iterator[str]:
        with filled_database(stack, template_database, owner, fill) as name:
            yield name

    return copied_database


@pytest.fixture
def fleet(migrated_url: str, redis_url: str) -> Iterator[Fleet]:
    """A fleet of its own database."""
    with small_fleet(migrated_url, redis_url) as fleet:
        yield fleet


@pytest.fixture
def docs(fleet: Fleet) -> Collection:
    """An empty collection of the fake model."""
    return fleet.collection("docs", model="fake/16")


def documents(count: int, *, word: str = "text") -> list[Document]:
    """Small ones, each of a text of its own."""
    return [Document(f"d{n}", f"{word} number {n}") for n in range(count)]


@contextmanager
def workers_of(fleet: Fleet) -> Iterator[WorkerMaker]:
    started: list[Runtime] = []

    def make(**settings: object) -> Runtime:
        runtime = Runtime(fleet.settings.model_copy(update=settings), Launch(("cpu",), 1, 1))
        runtime.start()
        started.append(runtime)
        return runtime

    try:
        yield make
    finally:
        for runtime in started:
            runtime.stop()


@pytest.fixture
def worker(fleet: Fleet) -> Iterator[WorkerMaker]:
    """Makes workers that live in the test's process and take a batch when told to."""
    with workers_of(fleet) as make:
        yield make


def ask(fleet: Fleet, statement: str, *values: object) -> list[Any]:
    """The rows of a statement; none where it gives none."""
    with fleet.db.transaction() as conn:
        cursor = conn.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def batches_of(fleet: Fleet, lease_seconds: float = 60.0) -> Batches:
    """The batches, as one more worker sees them."""
    return Batches(fleet.db, owner=uuid4(), lease_seconds=lease_seconds)


def queue_again(fleet: Fleet, collection: Collection, *contents: str) -> int:
    """Some texts, or all, in batches of one more job, as a batch API makes it of texts that wait in
    it for a day; returns the job.
    """
    info = collection.info
    texts = sql.SQL("SELECT id, tokens FROM embedfleet.{texts} WHERE content = ANY (%s) OR %s")
    with fleet.db.transaction() as conn:
        job_id = jobs.create(conn, info, "retry")
        wanted = conn.execute(composed(texts, info), (list(contents), not contents)).fetchall()
        requeue.put_batches(conn, info, job_id, wanted, batch_tokens=64)
        jobs.loaded(conn, job_id)
    return job_id


def drain(runtime: Runtime) -> list[str]:
    """Let a worker take batches until nothing is ready; returns what became of each."""
    outcomes: list[str] = []
    while (outcome := runtime.run_one("cpu")) != "idle":
        outcomes.append(outcome)
    return outcomes


@contextmanager
def claiming(fleet: Fleet, *, lease_seconds: float = 60.0) -> Iterator[Batches]:
    """The batch store of a worker without heartbeat, to be driven by hand."""
    yield Batches(fleet.db, owner=uuid4(), lease_seconds=lease_seconds)

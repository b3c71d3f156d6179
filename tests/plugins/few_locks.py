"""A server whose table of locks is small, and more collections than a transaction has locks for."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from embedfleet.collection import Collection
from embedfleet.fleet import Fleet
from embedfleet.stack import Endpoints, down, up
from embedfleet_schema.migrate import migrate
from embedfleet_schema.settings import load_settings
from plugins.fleets import ask
from plugins.servers import administrator, fresh_database, stack_folder

SMALL = {
    "max_locks_per_transaction": "10",
    "max_connections": "12",
    "superuser_reserved_connections": "1",
    "autovacuum_worker_slots": "1",
    "max_worker_processes": "1",
    "max_wal_senders": "0",
    "fsync": "off",
}
# The server rounds the size of the table up, and has some memory to spare.
MORE_THAN_LOCKS = 3_000
# With tables: a transaction that touches those of all of them needs twenty locks for each.
WITH_TABLES = 100


@pytest.fixture(scope="session")
def few_locks() -> Iterator[Endpoints]:
    """A stack of its own."""
    with stack_folder() as data:
        endpoints = _restarted(data, up(data))
        with administrator(endpoints):
            yield endpoints


def _restarted(data: Path, endpoints: Endpoints) -> Endpoints:
    with psycopg.connect(endpoints.database_url, autocommit=True) as conn:
        for name, value in SMALL.items():
            setting = sql.SQL("ALTER SYSTEM SET {} = {}")
            conn.execute(setting.format(sql.Identifier(name), sql.Literal(value)))
    down(data)
    return up(data)


@pytest.fixture
def crowded(few_locks: Endpoints) -> Iterator[Fleet]:
    """A fleet on that server."""
    with fresh_database(few_locks) as url:
        migrate(url)
        settings = load_settings(database_url=url, redis_url=few_locks.redis_url)
        with Fleet(settings) as fleet:
            yield fleet


def add_rows(fleet: Fleet, docs: Collection, *, delivery: str = "direct", count: int) -> None:
    """So many more collections of a space, without tables; each has a batch that waits."""
    ask(
        fleet,
        "WITH made AS (INSERT INTO embedfleet.collection (name, space_id, chunk_size,"
        " chunk_overlap, chunk_mode, tokenizer, queue) SELECT 'row' || n, %s, 0, 0, 'text', '',"
        " 'cpu' FROM generate_series(1, %s) AS n RETURNING id, space_id), jobs AS (INSERT INTO"
        " embedfleet.job (collection_id, kind, delivery, loaded_at) SELECT id, 'enqueue', %s, now()"
        " FROM made RETURNING id, collection_id) INSERT INTO embedfleet.batch (job_id,"
        " collection_id, space_id, queue, delivery, state, chunks, tokens, texts) SELECT j.id,"
        " m.id, m.space_id, 'cpu', %s, 'pending', 1, 5, '{1}' FROM jobs AS j JOIN made AS m ON m.id"
        " = j.collection_id",
        *(docs.info.space_id, count, delivery, delivery),
    )


def add_collections(fleet: Fleet, count: int) -> None:
    """So many with tables and a view, each made in a transaction of its own."""
    made = ask(
        fleet,
        "INSERT INTO embedfleet.collection (name, space_id, chunk_size, chunk_overlap,"
        " chunk_mode, tokenizer, queue) SELECT 'c' || n, s.id, 0, 0, 'text', '', 'cpu'"
        " FROM embedfleet.space AS s CROSS JOIN generate_series(1, %s) AS n RETURNING id",
        count,
    )
    for (number,) in made:
        ask(fleet, "SELECT embedfleet.create_relations(%s)", number)

"""Real servers: an embedded stack for the session, an empty database for each test."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
import redis
from psycopg import sql

from embedfleet.stack import Endpoints, down, up


@contextmanager
def stack_folder() -> Iterator[Path]:
    """A folder for an embedded stack, which is stopped and removed at the end.

    Not below pytest's own temporary folder: each session of pytest closes that to other users,
    and where root runs the tests, PostgreSQL of a session beside it is another user.
    """
    parent = Path(tempfile.mkdtemp(prefix="embedfleet-"))
    try:
        yield parent / "data"
    finally:
        down(parent / "data")
        shutil.rmtree(parent)


@pytest.fixture(scope="session")
def stack_data() -> Iterator[Path]:
    """The data folder of the session's stack."""
    with stack_folder() as data:
        yield data


@pytest.fixture(scope="session")
def stack(stack_data: Path) -> Endpoints:
    """PostgreSQL and Valkey, started once for the session.

    Without fsync, which guards against power cuts alone: killed servers lose nothing all the same.
    """
    endpoints = up(stack_data)
    with psycopg.connect(endpoints.database_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("ALTER SYSTEM SET full_page_writes = off")
        connection.execute("SELECT pg_reload_conf()")
    return endpoints


@pytest.fixture
def database_url(stack: Endpoints) -> Iterator[str]:
    """The URL of a fresh, empty database of the test's own."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield urlsplit(stack.database_url)._replace(path=f"/{name}").geturl()
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def redis_url(stack: Endpoints) -> str:
    """The URL of the session's Valkey, emptied."""
    with redis.Redis.from_url(stack.redis_url) as client:
        client.flushall()
    return stack.redis_url

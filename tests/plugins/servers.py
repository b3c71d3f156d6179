"""Real servers: an embedded stack for the session, an empty database for each test."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
import redis
from psycopg import sql

from embedfleet.stack import Endpoints, down, postgres_settings, up
from plugins.managed import Owner, choose_postgres

# Settings of the tests' own. To drop a database looks at every buffer; fsync guards against power
# cuts alone, killed servers lose nothing all the same.
SMALL = """\
shared_buffers = '64MB'
fsync = off
full_page_writes = off
"""
# Linux' file system in memory. Making and dropping a database is 600 files, which take a third
# of the time there; container engines leave it 64 MB, too little for any server.
MEMORY = Path("/dev/shm")  # noqa: S108 - the folders in it get random names
ROOM_BYTES = 4 * 2**30


def memory() -> Path | None:
    """The file system in memory where there is one with room for some stacks."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES
    return MEMORY if roomy else None


@contextmanager
def stack_folder() -> Iterator[Path]:
    """A folder for an embedded stack, which is stopped and removed at the end.

    Not below pytest's own temporary folder: each session of pytest closes that to other users,
    and where root runs the tests, PostgreSQL of a session beside it is another user.
    """
    parent = Path(tempfile.mkdtemp(prefix="embedfleet-", dir=memory()))
    try:
        yield parent / "data"
    finally:
        down(parent / "data")
        shutil.rmtree(parent)


def copy_stack(source: Path, target: Path) -> None:
    """Copy the data folder of an embedded stack, with its owners."""
    subprocess.run(["/bin/cp", "-a", source, target], check=True)


@pytest.fixture(scope="session")
def stack_data() -> Iterator[Path]:
    """The data folder of the session's stack."""
    with stack_folder() as data:
        yield data


@pytest.fixture(scope="session")
def stack(stack_data: Path, pytestconfig: pytest.Config) -> Iterator[Endpoints]:
    """PostgreSQL and Valkey, started once for the session, and set for many small databases."""
    render = postgres_settings.render
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_settings, "render", lambda: render() + SMALL)
        choose_postgres(pytestconfig, patch)
        endpoints = up(stack_data)
    login = urlsplit(endpoints.database_url)
    with administrator(endpoints) as connection:
        # Thousands of connections each prove that they know the password.
        connection.execute("SET scram_iterations = 1")
        role, password = sql.Identifier(login.username), sql.Literal(login.password)
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, password))
        yield endpoints


@cache
def administrator(stack: Endpoints) -> "psycopg.Connection":
    """The connection that makes and drops the databases of all tests: whose `with` ends it does."""
    return psycopg.connect(stack.database_url, autocommit=True)


@contextmanager
def fresh_database(
    stack: Endpoints, template: str = "template1", owner: Owner | None = None
) -> Iterator[str]:
    """The URL of a database that is dropped at the end; the administrator's, or of its owner.

    Its files are copied: half the work of writing each page to the log.
    """
    name = sql.Identifier(made := f"test_{uuid4().hex}")
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy OWNER {}")
    server = administrator(stack)
    login = urlsplit(stack.database_url)
    owned_by = sql.Identifier(str(login.username) if owner is None else owner.name)
    server.execute(create.format(name, sql.Identifier(template), owned_by))
    yield login._replace(path=f"/{made}").geturl() if owner is None else owner.url(made)
    server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def database_url(stack: Endpoints) -> Iterator[str]:
    """The URL of a fresh, empty database of the test's own."""
    with fresh_database(stack) as url:
        yield url


@pytest.fixture
def redis_url(stack: Endpoints, reached_redis: str) -> str:
    """The URL of the session's Valkey, emptied."""
    with redis.Redis.from_url(stack.redis_url) as client:
        client.flushall()
    return reached_redis

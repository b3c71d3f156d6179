"""Servers as providers rent them out: `pytest --postgres 16 --owner --redis-tls`, with `--pooler`.

PostgreSQL 16 or 18, both from the wheel; a user who owns the database but is no superuser, and may
not create an extension; pgvector in another schema; Redis that only speaks TLS, by an authority of
the test's own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import psycopg
import pytest
from psycopg import sql

from embedfleet.stack import Endpoints, initdb, postgres
from embedfleet.stack.wheels import POSTGRES_MAJOR, postgres_programs
from plugins.tcp_proxy import TcpProxy
from plugins.tls_servers import Authority

OLDER = 16
# It knows neither that provider of collations nor its options.
OF_NEWER = ("--locale", "--builtin-locale")
NAME, PASSWORD = "app_owner", "of-the-owner"


# What is left out of `--owner`, with the reason.
LEFT_OUT = {
    "test_invariants.py": "watches by an event trigger, which takes a superuser",
    "test_erasure.py::test_the_files_of_the_tables": "reads files of the server",
    "test_grants.py::test_nor_is_a_member": "grants a role of the server's",
    **dict.fromkeys(
        (
            "test_filter_index.py::test_one_that_was_left_half_built",
            "test_index_upkeep.py::test_an_index_that_nobody_can_use",
            "test_search.py::test_an_index_that_was_left_half_built",
            "test_vector_indexes.py::test_an_index_is_rebuilt_in_place_and_left_overs_go",
            "test_vector_indexes.py::test_an_index_that_a_crash_left_invalid",
        ),
        "writes to the catalog, as a crash would",
    ),
    "test_scan_defaults.py::test_the_owner_of_a_database": "gives a database to another role",
    "test_search_complete.py::test_the_printed_statements_find_pgvector": "moves the extension",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        type=int,
        default=POSTGRES_MAJOR,
        choices=(OLDER, POSTGRES_MAJOR),
        help="the version of the tests' PostgreSQL",
    )
    parser.addoption(
        "--owner",
        action="store_true",
        help="fleets of the tests belong to a user without superuser, who finds pgvector",
    )
    parser.addoption(
        "--vector-schema",
        default="public",
        help="where --owner finds pgvector; many tests name it as public.vector",
    )
    parser.addoption(
        "--redis-tls",
        action="store_true",
        help="fleets of the tests reach Redis by TLS, with a private authority",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--owner"):
        return
    names = tuple(LEFT_OUT)
    left_out = {item for item in items if item.nodeid.rpartition("/")[2].startswith(names)}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def choose_postgres(config: pytest.Config, patch: pytest.MonkeyPatch) -> None:
    """Have an embedded stack start the version that was asked for."""
    major = config.getoption("--postgres")
    if major == POSTGRES_MAJOR:
        return
    programs = postgres_programs()
    # The older version's folder carries no number.
    folder = Path(str(programs).replace(f"pginstall{POSTGRES_MAJOR}", "pginstall"))
    options = [each for each in initdb.OPTIONS if not each.startswith(OF_NEWER)]
    options = [each for each in options if each != "--locale-provider=builtin"]
    patch.setattr(initdb, "OPTIONS", (*options, "--locale=C.UTF-8"))
    patch.setattr(initdb, "POSTGRES_MAJOR", major)
    for module in (initdb, postgres):
        patch.setattr(module, "postgres_programs", lambda: folder)


@dataclass(frozen=True)
class Owner:
    """Who owns the databases of the tests: the administrator, or a user with fewer rights."""

    stack: Endpoints
    name: str
    is_administrator: bool
    vector_schema: str = "public"

    def url(self, database: str) -> str:
        parts = urlsplit(self.stack.database_url)._replace(path=f"/{database}")
        if self.is_administrator:
            return parts.geturl()
        netloc = f"{self.name}:{PASSWORD}@{parts.hostname}:{parts.port}"
        return parts._replace(netloc=netloc).geturl()

    def prepare(self, database: str) -> None:
        """What a provider's administrator does in a new database: pgvector in its own schema."""
        if self.is_administrator:
            return
        url = urlsplit(self.stack.database_url)._replace(path=f"/{database}").geturl()
        with psycopg.connect(url, autocommit=True) as connection:
            schema = sql.Identifier(self.vector_schema)
            for statement in (
                "CREATE SCHEMA IF NOT EXISTS {}",
                "GRANT USAGE ON SCHEMA {} TO PUBLIC",
                "CREATE EXTENSION vector SCHEMA {}",
            ):
                connection.execute(sql.SQL(statement).format(schema))


@pytest.fixture(scope="session")
def owner(stack: Endpoints, pytestconfig: pytest.Config) -> Owner:
    login = urlsplit(stack.database_url).username
    assert login is not None
    if not pytestconfig.getoption("--owner"):
        return Owner(stack, login, is_administrator=True)
    name, password = sql.Identifier(NAME), sql.Literal(PASSWORD)
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        # As providers have it: roles and databases, the statistics, an end to sessions, and a way
        # around triggers.
        created = sql.SQL("CREATE ROLE {} LOGIN CREATEROLE CREATEDB PASSWORD {}")
        connection.execute(created.format(name, password))
        connection.execute(sql.SQL("GRANT pg_monitor, pg_signal_backend TO {}").format(name))
        granted = sql.SQL("GRANT SET ON PARAMETER session_replication_role TO {}")
        connection.execute(granted.format(name))
        # Since PostgreSQL 16, who creates a role may use its rights only where this says so.
        itself = sql.SQL("ALTER ROLE {} SET createrole_self_grant = 'set, inherit'")
        connection.execute(itself.format(name))
        schema = pytestconfig.getoption("--vector-schema")
        path = sql.SQL('ALTER ROLE {} SET search_path = "$user", public, {}')
        connection.execute(path.format(name, sql.Identifier(schema)))
    return Owner(stack, NAME, is_administrator=False, vector_schema=schema)


@pytest.fixture(scope="session")
def reached_redis(
    stack: Endpoints, authority: Authority, pytestconfig: pytest.Config
) -> Iterator[str]:
    """The URL of the session's Valkey, as fleets reach it."""
    if not pytestconfig.getoption("--redis-tls"):
        yield stack.redis_url
        return
    parts = urlsplit(stack.redis_url)
    assert parts.hostname is not None
    assert parts.port is not None
    front = TcpProxy(parts.hostname, parts.port, authority.context("localhost"))
    login = parts.netloc.rpartition("@")[0]
    yield parts._replace(
        scheme="rediss",
        netloc=f"{login}@localhost:{front.port}",
        query=urlencode({"ssl_ca_certs": authority.file}),
    ).geturl()
    front.close()

"""Migrations: forward only, one process at a time, safe to run again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from embedfleet_schema.addresses import redacted
from embedfleet_schema.database import CONNECT_TIMEOUT_S, LOCK_SPACE
from embedfleet_schema.errors import DatabaseUnreachable, NotPermitted, PgvectorMissing
from embedfleet_schema.roles import renew_grants
from embedfleet_schema.statements import load

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection, Engine


def migrate(url: str) -> tuple[str | None, str | None]:
    """Bring the tables at `url` to the newest revision; returns the revisions before and after.

    Raises:
        DatabaseUnreachable: nobody answers at `url`.
        PgvectorMissing: the extension cannot be created.
        NotPermitted: the user may neither make the schema nor act as its owner.
    """
    from alembic import command

    with prepared(engine_for(url)) as connection:
        before = _revision(connection)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        after = _revision(connection)
    renew_grants(url)
    return before, after


def engine_for(url: str) -> Engine:
    """An engine without a pool: a migration is one connection's work."""
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.engine import make_url

    return create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        # A role named like our schema has it first in its path; names must mean the same for all.
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "options": "-c search_path=public"},
    )


@contextmanager
def prepared(engine: Engine) -> Iterator[Connection]:
    """A connection under the migrations' advisory lock, with schema and extension in place."""
    from sqlalchemy import text
    from sqlalchemy.exc import OperationalError

    url = _plain(engine)
    try:
        connection = engine.connect()
    except OperationalError as error:
        raise _unreachable(url, error) from error
    lock = {"space": LOCK_SPACE, "lock": -1}
    with connection:
        connection.execute(text("SELECT pg_advisory_lock(:space, :lock)"), lock)
        connection.commit()
        try:
            _create_foundations(connection)
            _act_as_owner(connection)
            yield connection
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:space, :lock)"), lock)
            connection.commit()


def _create_foundations(connection: Connection) -> None:
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    # IF NOT EXISTS alone asks for the right to create a schema that is there.
    if connection.scalar(text("SELECT to_regnamespace('embedfleet')")) is None:
        with _refusals(connection):
            connection.execute(text("CREATE SCHEMA IF NOT EXISTS embedfleet"))
    try:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public"))
    except DBAPIError as error:
        reason = str(error.orig).splitlines()[0]
        raise PgvectorMissing(url=redacted(_plain(connection.engine)), reason=reason) from error
    connection.commit()


def _act_as_owner(connection: Connection) -> None:
    """What a migration makes belongs to the owner of the schema, whoever runs it."""
    from sqlalchemy import text

    other = connection.scalar(text(load("roles")["other_owner"].as_string(None)))
    if other is not None:
        with _refusals(connection):
            connection.execute(text(f"SET ROLE {other}"))
    connection.commit()


@contextmanager
def _refusals(connection: Connection) -> Iterator[None]:
    from sqlalchemy.exc import ProgrammingError

    try:
        yield
    except ProgrammingError as error:
        reason = str(error.orig).splitlines()[0]
        raise NotPermitted(url=redacted(_plain(connection.engine)), reason=reason) from error


def _revision(connection: Connection) -> str | None:
    from alembic.migration import MigrationContext

    options = {"version_table_schema": "embedfleet"}
    revision = MigrationContext.configure(connection, opts=options).get_current_revision()
    connection.rollback()
    return revision


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "embedfleet_schema:migrations")
    config.set_main_option("path_separator", "os")
    return config


def _plain(engine: Engine) -> str:
    """The engine's URL as psycopg takes it, without the password."""
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=True)


def _unreachable(url: str, error: Exception) -> DatabaseUnreachable:
    reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
    return DatabaseUnreachable(url=redacted(url), reason=reason)

"""Migrations: forward only, one process at a time, safe to run again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from embedfleet_schema.database import LOCK_SPACE, Database
from embedfleet_schema.database_errors import (
    CodeOfOthers,
    MigrationInTheWay,
    NotPermitted,
    PgvectorMissing,
    UnsuitableDatabase,
)
from embedfleet_schema.requirements import pgvector, unmet
from embedfleet_schema.roles import code_of_others, renew_grants
from embedfleet_schema.session import brief, dependents
from embedfleet_schema.statements import load

if TYPE_CHECKING:
    from alembic.config import Config
    from psycopg import Connection as Driver
    from sqlalchemy import Connection, CursorResult, Engine

_SQL = load("migrate")
_ROLES = load("roles")

# Of several things that are in the way, a message names so many.
NAMED = 5


def migrate(url: str, *, lock_wait_s: float | None = None) -> tuple[str | None, str | None]:
    """Bring the tables at `url` to the newest revision; returns the revisions before and after.

    Raises:
        DatabaseUnreachable: nobody answers at `url`.
        UnsuitableDatabase: the server or the database is not what embedfleet needs.
        PgvectorMissing: the extension cannot be created.
        NotPermitted: the user may neither make the schema nor act as its owner.
        Blocked: somebody holds a lock that the migration needs.
        MigrationInTheWay: a view of somebody reads what the migration removes.
    """
    with prepared(url, lock_wait_s=lock_wait_s) as connection:
        before = _revision(connection)
        upgrade(connection, "head")
        after = _revision(connection)
    renew_grants(url)
    return before, after


def upgrade(connection: Connection, revision: str) -> None:
    """Run the migrations up to a revision, on a connection of `prepared`."""
    from alembic import command

    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def engine_for(db: Database) -> Engine:
    """An engine whose connections are ours: libpq reads the URL, and all is set up as elsewhere.

    Without a pool: a migration is one connection's work.
    """
    from sqlalchemy import NullPool, create_engine

    def connect() -> Driver[Any]:
        conn = db.direct()
        conn.autocommit = False
        return conn

    return create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)


@contextmanager
def prepared(url: str, *, lock_wait_s: float | None = None) -> Iterator[Connection]:
    """A connection under the migrations' advisory lock, with schema and extension in place."""
    db = Database(url) if lock_wait_s is None else Database(url, lock_wait_s=lock_wait_s)
    lock: dict[str, object] = {"space": LOCK_SPACE, "lock": -1}
    with _refusals(db), engine_for(db).connect() as connection:
        _check(db, connection)
        _execute(connection, _SQL["lock"], lock)
        connection.commit()
        try:
            _create_foundations(db, connection)
            _refuse_code_of_others(db, connection)
            _act_as_owner(connection)
            yield connection
        finally:
            connection.rollback()
            _execute(connection, _SQL["unlock"], lock)
            connection.commit()


def _execute(
    connection: Connection, statement: sql.SQL, values: dict[str, object] | None = None
) -> CursorResult[Any]:
    return connection.exec_driver_sql(statement.as_string(None), values)


def _driver(connection: Connection) -> Driver[Any]:
    driver: Any = connection.connection.driver_connection
    found: Driver[Any] = driver
    return found


def _check(db: Database, connection: Connection) -> None:
    """Refuse what cannot work before anything is made."""
    problems = [each for each in unmet(_driver(connection)) if each.for_migrate]
    connection.rollback()
    if problems:
        reasons = "; ".join(f"{each.found}: {each.advice}" for each in problems)
        raise UnsuitableDatabase(url=db.name, reason=reasons)


def _create_foundations(db: Database, connection: Connection) -> None:
    from sqlalchemy.exc import DBAPIError

    # IF NOT EXISTS alone asks for the right to create a schema that is there. Of an extension, some
    # providers ask for their own list of what is allowed.
    if _execute(connection, _SQL["schema"]).scalar() is None:
        _execute(connection, _SQL["create_schema"])
    if pgvector(_driver(connection)) is None:
        try:
            _execute(connection, _SQL["create_extension"])
        except DBAPIError as error:
            raise PgvectorMissing(url=db.name, reason=_reason(error)) from error
    connection.commit()


def _refuse_code_of_others(db: Database, connection: Connection) -> None:
    """A superuser who acts as the owner can be made a superuser again by what the owner left."""
    found = code_of_others(_driver(connection))
    connection.rollback()
    if found:
        raise CodeOfOthers(url=db.name, found="; ".join(found[:NAMED]))


def _act_as_owner(connection: Connection) -> None:
    """What a migration makes belongs to the owner of the schema, whoever runs it."""
    _execute(connection, _ROLES["become_owner"], {"until_commit": False})
    connection.commit()


@contextmanager
def _refusals(db: Database) -> Iterator[None]:
    """The driver's refusals, which SQLAlchemy wraps, in our words."""
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise db.blocked() from error
        if isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise NotPermitted(url=db.name, reason=_reason(error)) from error
        if isinstance(error.orig, psycopg.errors.DependentObjectsStillExist):
            raise MigrationInTheWay(url=db.name, dependents=dependents(error.orig)) from error
        raise


def _reason(error: Exception) -> str:
    return brief(getattr(error, "orig", error))


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

"""Connections: one small pool per process, opened on first use, errors in plain words."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import Connection
from psycopg_pool import ConnectionPool

from embedfleet_schema import revisions, session, vectors
from embedfleet_schema.addresses import redacted
from embedfleet_schema.errors import (
    Blocked,
    DatabaseUnreachable,
    NotPermitted,
    PgvectorMissing,
    SchemaMissing,
    SchemaNewer,
    SchemaOutdated,
)
from embedfleet_schema.forks import leave_to_parent, renewed_after_fork
from embedfleet_schema.types import Storage

# How long a thread waits for a connection of the pool.
POOL_TIMEOUT_S = 30.0
# Advisory locks share one number space per database; this marks ours ("ef" in ASCII).
LOCK_SPACE = 0x6566
# Who looks through a whole collection for what has to be queued again waits for others who do.
REPAIR_LOCK_SPACE = 0x6567
# Who reserves some of a job's budget waits for others who do.
BUDGET_LOCK_SPACE = 0x6568
# Whoever takes the lock of a collection shares that of its space first; who owns that is alone in
# all of its collections.
MODEL_LOCK_SPACE = 0x6569
# All of them: whoever may connect can hold such a lock, so who does is looked for.
LOCK_SPACES = [LOCK_SPACE, REPAIR_LOCK_SPACE, BUDGET_LOCK_SPACE, MODEL_LOCK_SPACE]


Row = Mapping[str, Any]


# What a statement meets where a later release renamed or removed what it names.
_UNKNOWN = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
)


class LockTimeout(Blocked, psycopg.errors.LockNotAvailable):
    __doc__ = Blocked.__doc__  # and still what it was to those who try again


class Database:
    """A PostgreSQL database with pgvector. Thread-safe; a forked child opens connections anew.

    Args:
        url: all that libpq takes, a URL or `key=value` words.
        lock_wait_s: how long a statement waits for a lock that others hold.
    """

    def __init__(
        self, url: str, *, max_connections: int = 8, lock_wait_s: float = session.LOCK_WAIT_S
    ) -> None:
        self.url = url
        self.name = redacted(url)
        self.lock_wait_s = lock_wait_s
        # Known as soon as a pooled connection is there: pgvector's types and where they are, and
        # how long a statement of this role may take by its own settings.
        self.oids: dict[Storage, int] = {}
        self.vector_schema = "public"
        self.statement_timeout = "0"
        self.max_connections = max_connections
        self._pool: ConnectionPool[Connection[Any]] | None = None
        self._lock = threading.Lock()
        renewed_after_fork(self, "_renew")

    @contextmanager
    def connection(self, *, name_holders: bool = True) -> Iterator[Connection[Any]]:
        """A pooled connection in autocommit mode, rows as tuples.

        Without `name_holders` a lock that is not to be had in time is LockNotAvailable alone: to
        find out who holds it takes another connection.

        Raises:
            DatabaseUnreachable: no connection within five seconds.
            NotPermitted: the user's role lacks the right to what is done with it.
            SchemaNewer: what it names is not there any more.
            Blocked: somebody held a lock for longer than `lock_wait_s`.
        """
        with self._refusals(name_holders), self._opened().connection() as conn:
            yield conn

    @contextmanager
    def transaction(self, *, name_holders: bool = True) -> Iterator[Connection[Any]]:
        """One transaction: committed at the end, rolled back on an exception."""
        with self.connection(name_holders=name_holders) as conn, conn.transaction():
            yield conn

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _renew(self) -> None:
        self._lock = threading.Lock()
        leave_to_parent(self._pool)
        self._pool = None

    @property
    def exhausted(self) -> bool:
        """Whether every connection of the pool is in use."""
        stats = self._pool.get_stats() if self._pool is not None else {}
        full = stats.get("pool_size", 0) >= self.max_connections
        return full and not stats.get("pool_available", 0)

    def connect(self) -> Connection[Any]:
        """A connection outside the pool, for a thread that must not wait for another."""
        try:
            conn = psycopg.connect(**session.parameters(self.url), autocommit=True)
            session.set_up(conn, lock_wait_s=self.lock_wait_s)
        except psycopg.OperationalError as error:
            raise DatabaseUnreachable(url=self.name, reason=session.brief(error)) from error
        except psycopg.ProgrammingError:
            # The driver's message quotes the URL, password and all.
            raise DatabaseUnreachable(url=self.name, reason="it cannot be read") from None
        return conn

    def _opened(self) -> ConnectionPool[Connection[Any]]:
        with self._lock:
            if self._pool is None:
                self._check()
                self._pool = ConnectionPool(
                    min_size=1,
                    max_size=self.max_connections,
                    timeout=POOL_TIMEOUT_S,
                    kwargs=session.parameters(self.url) | {"autocommit": True},
                    configure=self._configure,
                    check=ConnectionPool.check_connection,
                    name="embedfleet",
                    open=True,
                )
            return self._pool

    def revision(self) -> str | None:
        """The revision of the tables; None where there are none."""
        with self._refusals(), self.connect() as conn:
            return revisions.stored(conn)

    @contextmanager
    def _refusals(self, name_holders: bool = True) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.InsufficientPrivilege as error:
            raise NotPermitted(url=self.name, reason=session.brief(error)) from error
        except psycopg.errors.IdleInTransactionSessionTimeout as error:
            # The driver takes it for an error inside PostgreSQL; it is a lost connection.
            raise psycopg.OperationalError(session.brief(error)) from error
        except _UNKNOWN:
            self.check_known()
            raise
        except psycopg.errors.LockNotAvailable as error:
            if not name_holders or isinstance(error, LockTimeout):
                raise
            raise self.blocked() from error

    def blocked(self) -> LockTimeout:
        """The error for a lock that was not to be had, with those who hold it."""
        with self.connect() as conn:
            found = session.holders(conn, LOCK_SPACES)
        return LockTimeout(
            url=self.name,
            seconds=self.lock_wait_s,
            holders=session.described(found),
            pid=found[0].pid if found else "PID",
        )

    def _check(self) -> None:
        """Fail at once and in plain words, where a pool would keep trying in the background."""
        found, needed = self.revision(), revisions.newest()
        if found is None:
            raise SchemaMissing(url=self.name)
        if found < needed:
            raise SchemaOutdated(url=self.name, found=found, needed=needed)
        self._check_known(found)

    def check_known(self) -> None:
        """Raise SchemaNewer where the tables were migrated past what this program knows."""
        # Who may not look cannot tell.
        with suppress(psycopg.errors.InsufficientPrivilege), self.connect() as conn:
            self._check_known(revisions.stored(conn))

    def _check_known(self, found: str | None) -> None:
        if found is not None and found > revisions.newest():
            raise SchemaNewer(url=self.name, found=found, known=revisions.newest())

    def _configure(self, conn: Connection[Any]) -> None:
        self.statement_timeout = session.set_up(conn, lock_wait_s=self.lock_wait_s)
        try:
            self.vector_schema, self.oids = vectors.register(conn)
        except psycopg.ProgrammingError as error:
            raise PgvectorMissing(url=self.name, reason=session.brief(error)) from error

"""Connections: one small pool per process, opened on first use, errors in plain words."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import Connection
from psycopg_pool import ConnectionPool, PoolTimeout

from embedfleet_schema import revisions, session, vectors
from embedfleet_schema.addresses import redacted
from embedfleet_schema.database_errors import (
    Blocked,
    NotPermitted,
    PgvectorMissing,
    PoolerInTheWay,
    SchemaMissing,
    SchemaNewer,
    SchemaOutdated,
    UnsuitableDatabase,
)
from embedfleet_schema.forks import leave_to_parent, renewed_after_fork
from embedfleet_schema.opening import (
    class_for_pool,
    closed_on_error,
    identity,
    is_pooled,
    opened,
    reached,
)
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
# Who stores documents waits while a collection changes its model.
WRITE_LOCK_SPACE = 0x656B
# All of them: whoever may connect can hold such a lock, so who does is looked for.
LOCK_SPACES = [
    LOCK_SPACE,
    REPAIR_LOCK_SPACE,
    BUDGET_LOCK_SPACE,
    MODEL_LOCK_SPACE,
    WRITE_LOCK_SPACE,
]
# Who builds or drops indexes of a collection is alone in that, for hours: nobody else waits for it.
INDEX_LOCK_SPACE = 0x656A
# Who moves documents of a sync is alone in that, for seconds; others take their turns.
SYNC_LOCK_SPACE = 0x656C


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
        direct_url: the same database without a pooler, for what cannot do with one; `url` where
            there is none.
        lock_wait_s: how long a statement waits for a lock that others hold.
    """

    def __init__(
        self,
        url: str,
        *,
        direct_url: str | None = None,
        max_connections: int = 8,
        lock_wait_s: float = session.LOCK_WAIT_S,
    ) -> None:
        self.url = url
        self.direct_url = direct_url or url
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
    def transaction(self, *, name_holders: bool = True) -> Iterator[Connection[Any]]:
        """A pooled connection in a transaction, rows as tuples: committed at the end, rolled back
        on an exception.

        Without `name_holders` a lock that is not to be had in time is LockNotAvailable alone: to
        find out who holds it takes another connection.

        Raises:
            DatabaseUnreachable: no connection within five seconds.
            NotPermitted: the user's role lacks the right to what is done with it.
            SchemaNewer: what it names is not there any more.
            Blocked: somebody held a lock for longer than `lock_wait_s`.
        """
        with self.refusals(name_holders):
            pool = self._opened()
            conn = self._lent(pool)
            try:
                with session.ended(conn):
                    yield conn
            finally:
                pool.putconn(conn)

    def _lent(self, pool: ConnectionPool[Connection[Any]]) -> Connection[Any]:
        """A connection of the pool in a transaction. What was lost while it was idle is replaced:
        the first message tells, so none is sent to ask.
        """
        lost: Exception | None = None
        until = time.monotonic() + POOL_TIMEOUT_S
        for _ in range(self.max_connections + 1):
            try:
                conn = pool.getconn()
            except PoolTimeout:
                if lost is None:
                    raise
                break
            try:
                session.begin(conn, lock_wait_s=self.lock_wait_s)
            except psycopg.OperationalError as error:
                pool.putconn(conn)
                # A pooler that has no session to give says so late.
                if not conn.closed or time.monotonic() > until:
                    raise
                lost = error
            except BaseException:
                pool.putconn(conn)
                raise
            else:
                return conn
        raise lost or PoolTimeout

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

    @contextmanager
    def connect(self, *, direct: bool = False) -> Iterator[Connection[Any]]:
        """A transaction on a connection outside the pool, for what must not wait for another.

        With `direct` it goes past a pooler, where the direct URL is known.
        """
        with self.begun(self.direct_url if direct else self.url) as conn, session.ended(conn):
            yield conn

    def begun(self, url: str) -> Connection[Any]:
        """A connection outside the pool, in a transaction that `session.ended` ends."""
        with reached(url), closed_on_error(opened(url)) as conn:
            session.begin(conn, lock_wait_s=self.lock_wait_s)
        return conn

    def direct(self) -> Connection[Any]:
        """A session of its own in autocommit mode, set up as a transaction is: for what does not
        run in a transaction, or needs the same session in several.

        Raises:
            PoolerInTheWay: a pooler gives each transaction another session.
            UnsuitableDatabase: the direct URL leads to another database.
        """
        self.check_direct()
        url = self.direct_url
        with reached(url), closed_on_error(opened(url)) as conn:
            if is_pooled(url, conn):
                raise PoolerInTheWay(url=redacted(url))
            with session.transaction(conn, lock_wait_s=self.lock_wait_s):
                session.keep(conn)
        return conn

    def check_direct(self) -> None:
        """Raise UnsuitableDatabase where the direct URL leads to another database."""
        if self.direct_url != self.url and identity(self.direct_url) != identity(self.url):
            reason = "EMBEDFLEET_DATABASE_URL names another one"
            raise UnsuitableDatabase(url=redacted(self.direct_url), reason=reason)

    def is_pooled(self) -> bool:
        """Whether a pooler gives each transaction another session."""
        with reached(self.url), opened(self.url) as conn:
            return is_pooled(self.url, conn)

    def _opened(self) -> ConnectionPool[Connection[Any]]:
        with self._lock:
            if self._pool is None:
                self._pool = ConnectionPool(
                    connection_class=class_for_pool(self._checked(), self.url),
                    min_size=1,
                    max_size=self.max_connections,
                    timeout=POOL_TIMEOUT_S,
                    configure=self._configure,
                    name="embedfleet",
                    open=True,
                )
            return self._pool

    def revision(self) -> str | None:
        """The revision of the tables; None where there are none."""
        with self.refusals(), self.connect() as conn:
            return revisions.stored(conn)

    @contextmanager
    def refusals(self, name_holders: bool = True) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.InsufficientPrivilege as error:
            raise NotPermitted(url=self.name, reason=session.brief(error)) from error
        except _UNKNOWN:
            self.check_known()
            raise
        except psycopg.errors.LockNotAvailable as error:
            if not name_holders or isinstance(error, LockTimeout):
                raise
            raise self.blocked() from error

    def blocked(
        self, spaces: Sequence[int] = LOCK_SPACES, *, seconds: float | None = None
    ) -> LockTimeout:
        """The error for a lock that was not to be had, with those who hold it."""
        with self.connect() as conn:
            found = session.holders(conn, spaces)
        return LockTimeout(
            url=self.name,
            seconds=self.lock_wait_s if seconds is None else seconds,
            holders=session.described(found),
            pid=found[0].pid if found else "PID",
        )

    def _checked(self) -> Connection[Any]:
        """The first connection of the pool, to tables that fit. It fails at once and in plain
        words, where a pool would keep trying in the background.
        """
        needed = revisions.newest()
        conn = self.begun(self.url)
        with closed_on_error(conn), session.ended(conn):
            found = revisions.stored(conn)
            if found is None:
                raise SchemaMissing(url=self.name)
            if found < needed:
                raise SchemaOutdated(url=self.name, found=found, needed=needed)
            self._check_known(found)
        return conn

    def check_known(self) -> None:
        """Raise SchemaNewer where the tables were migrated past what this program knows."""
        # Who may not look cannot tell.
        with suppress(psycopg.errors.InsufficientPrivilege), self.connect() as conn:
            self._check_known(revisions.stored(conn))

    def _check_known(self, found: str | None) -> None:
        if found is not None and found > revisions.newest():
            raise SchemaNewer(url=self.name, found=found, known=revisions.newest())

    def _configure(self, conn: Connection[Any]) -> None:
        with session.transaction(conn, lock_wait_s=self.lock_wait_s):
            self.statement_timeout = session.statement_timeout(conn)
            try:
                self.vector_schema, self.oids = vectors.register(conn)
            except psycopg.ProgrammingError as error:
                raise PgvectorMissing(url=self.name, reason=session.brief(error)) from error


class OwnConnection:
    """A connection for one thread that must not wait for others, opened when it is needed."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._conn: Connection[Any] | None = None

    @contextmanager
    def transaction(self) -> Iterator[Connection[Any]]:
        """One transaction, as those of the pool."""
        with session.ended(self._begun()) as conn:
            yield conn

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _begun(self) -> Connection[Any]:
        """As the pool does: what was lost while it was idle is opened again."""
        if self._conn is not None:
            try:
                session.begin(self._conn, lock_wait_s=self._db.lock_wait_s)
            except psycopg.OperationalError:
                if not self._conn.closed:
                    raise
            else:
                return self._conn
        self._conn = self._db.begun(self._db.url)
        return self._conn

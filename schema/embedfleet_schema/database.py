"""Connections: one small pool per process, opened on first use, errors in plain words."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool

from embedfleet_schema import vectors
from embedfleet_schema.errors import (
    DatabaseUnreachable,
    NotPermitted,
    PgvectorMissing,
    SchemaMissing,
    SchemaOutdated,
)
from embedfleet_schema.forks import leave_to_parent, renewed_after_fork
from embedfleet_schema.revisions import newest
from embedfleet_schema.types import Storage

CONNECT_TIMEOUT_S = 5
# How long a thread waits for a connection of the pool.
POOL_TIMEOUT_S = 30.0
# How long a transaction may wait for its own process: one that is frozen gives its locks back then.
IDLE_S = 60.0
# Advisory locks share one number space per database; this marks ours ("ef" in ASCII).
LOCK_SPACE = 0x6566
# Who looks through a whole collection for what has to be queued again waits for others who do.
REPAIR_LOCK_SPACE = 0x6567

Row = Mapping[str, Any]


def redacted(url: str) -> str:
    """host:port/name of a PostgreSQL URL: all that an error message may show."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return "(not a PostgreSQL URL)"
    host = parts.get("host") or "localhost"
    return f"{host}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"


class Database:
    """A PostgreSQL database with pgvector. Thread-safe; a forked child opens connections anew."""

    def __init__(self, url: str, *, max_connections: int = 8) -> None:
        self.url = url
        self.name = redacted(url)
        self.max_connections = max_connections
        self.oids: dict[Storage, int] = {}
        self._pool: ConnectionPool[Connection[Any]] | None = None
        self._lock = threading.Lock()
        renewed_after_fork(self, "_renew")

    @contextmanager
    def connection(self) -> Iterator[Connection[Any]]:
        """A pooled connection in autocommit mode, rows as tuples.

        Raises:
            DatabaseUnreachable: no connection within five seconds.
            NotPermitted: the user's role lacks the right to what is done with it.
        """
        with self._refusals(), self._opened().connection() as conn:
            yield conn

    @contextmanager
    def transaction(self) -> Iterator[Connection[Any]]:
        """One transaction: committed at the end, rolled back on an exception."""
        with self.connection() as conn, conn.transaction():
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
            conn = psycopg.connect(
                self.url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, **_KEEPALIVE
            )
            _watch(conn)
        except psycopg.OperationalError as error:
            raise DatabaseUnreachable(url=self.name, reason=brief(error)) from error
        except psycopg.ProgrammingError:
            # The driver's message quotes the URL, password and all.
            raise DatabaseUnreachable(url=self.name, reason="it cannot be read") from None
        return conn

    def _opened(self) -> ConnectionPool[Connection[Any]]:
        with self._lock:
            if self._pool is None:
                self._check()
                self._pool = ConnectionPool(
                    self.url,
                    min_size=1,
                    max_size=self.max_connections,
                    timeout=POOL_TIMEOUT_S,
                    kwargs={"autocommit": True, "connect_timeout": CONNECT_TIMEOUT_S, **_KEEPALIVE},
                    configure=self._configure,
                    check=ConnectionPool.check_connection,
                    name="embedfleet",
                    open=True,
                )
            return self._pool

    def revision(self) -> str | None:
        """The revision of the tables; None where there are none."""
        with self._refusals(), self.connect() as conn:
            row = conn.execute("SELECT to_regclass('embedfleet.alembic_version')").fetchone()
            if row is None or row[0] is None:
                return None
            row = conn.execute("SELECT version_num FROM embedfleet.alembic_version").fetchone()
        return row[0] if row else None

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.InsufficientPrivilege as error:
            raise NotPermitted(url=self.name, reason=brief(error)) from error
        except psycopg.errors.IdleInTransactionSessionTimeout as error:
            # The driver takes it for an error inside PostgreSQL; it is a lost connection.
            raise psycopg.OperationalError(brief(error)) from error

    def _check(self) -> None:
        """Fail at once and in plain words, where a pool would keep trying in the background."""
        found, needed = self.revision(), newest()
        if found is None:
            raise SchemaMissing(url=self.name)
        if found < needed:
            raise SchemaOutdated(url=self.name, found=found, needed=needed)

    def _configure(self, conn: Connection[Any]) -> None:
        _watch(conn)
        try:
            self.oids = vectors.register(conn)
        except psycopg.ProgrammingError as error:
            raise PgvectorMissing(url=self.name, reason=brief(error)) from error


# A worker that loses its network notices within a minute instead of after two hours.
_KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
# The same for the server, which would keep the locks of a machine that lost its power.
_SERVER_KEEPALIVE = {f"tcp_{name}": str(value) for name, value in _KEEPALIVE.items()} | {
    "tcp_user_timeout": "50s"
}


def _watch(conn: Connection[Any]) -> None:
    """Have the server notice within a minute that nobody is left, or that nobody goes on."""
    wanted = {"idle_in_transaction_session_timeout": f"{IDLE_S * 1e3:.0f}", **_SERVER_KEEPALIVE}
    conn.execute(
        "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) w (name, value)",
        (list(wanted), list(wanted.values())),
    )


def brief(error: Exception) -> str:
    """The first line of a driver's message, without the connection string it may quote."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

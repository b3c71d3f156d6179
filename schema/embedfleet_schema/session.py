"""What every transaction of ours is set to, whatever the role, the database or the server say.

Set for the transaction, and for nothing longer: behind a pooler the next one may run in a session
that others had before, and others have it next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import InFailedSqlTransaction
from psycopg.pq import TransactionStatus

from embedfleet_schema.statements import load

_SQL = load("session")

CONNECT_TIMEOUT_S = 5
# How long a transaction may wait for its own process: one that is frozen gives its locks back then.
IDLE_S = 60.0
# How long a statement waits for a lock, where no setting says otherwise.
LOCK_WAIT_S = 60.0
# So often a connection is asked who serves it before it counts as one with a session of its own.
ASKED = 5
# From this version on a role may have a limit for whole transactions.
TRANSACTION_TIMEOUT_SINCE = 170_000

# A worker that loses its network notices within a minute, instead of after two hours where it only
# listens, and after a quarter of an hour where it has sent something: probes wait for that, too.
_KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 50_000,
}


@dataclass(frozen=True, slots=True)
class Holder:
    """A session that holds a lock; `state` and `since` are None where they may not be seen."""

    pid: int
    role: str | None
    application: str
    state: str | None
    since: datetime | None

    def __str__(self) -> str:
        name = f"pid {self.pid}, role {self.role}"
        application = f", {self.application}" if self.application else ""
        state = f", {self.state}" if self.state else ""
        since = f", since {self.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        return name + application + state + since


def parameters(url: str) -> dict[str, Any]:
    """What libpq takes from a URL or from `key=value` words; what they leave open is ours.

    Raises:
        psycopg.ProgrammingError: libpq does not understand it. The message quotes it.
    """
    ours = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "fallback_application_name": "embedfleet",
        **_KEEPALIVE,
    }
    return ours | conninfo_to_dict(url) | {"client_encoding": "UTF8"}


@cache
def opening(server_version: int, lock_wait_s: float, idle_s: float) -> bytes:
    """The message that starts a transaction."""
    more = _SQL["begin_since_17"] if server_version >= TRANSACTION_TIMEOUT_SINCE else sql.SQL("")
    return (
        _SQL["begin"]
        .format(
            idle_ms=sql.Literal(round(idle_s * 1e3)),
            lock_wait_ms=sql.Literal(round(max(1.0, lock_wait_s * 1e3))),
            more=more,
        )
        .as_bytes(None)
    )


def begin(conn: Connection[Any], *, lock_wait_s: float) -> None:
    """Start a transaction that is set as ours are, by one message."""
    # Several statements at once cannot be prepared.
    conn.execute(opening(conn.info.server_version, lock_wait_s, IDLE_S), prepare=False)


@contextmanager
def ended(conn: Connection[Any]) -> Iterator[Connection[Any]]:
    """Commit what was begun; roll it back on an exception.

    Raises:
        OperationalError: the connection was lost.
        InFailedSqlTransaction: a statement failed and nobody was told; nothing was committed.
    """
    try:
        try:
            yield conn
        except BaseException:
            # What went wrong is that; what is lost is rolled back by the server.
            with suppress(psycopg.Error):
                conn.rollback()
            raise
        if conn.info.transaction_status == TransactionStatus.INERROR:
            conn.rollback()
            raise InFailedSqlTransaction("one of its statements failed, so nothing was committed")
        conn.commit()
    except psycopg.InternalError as error:
        if not conn.closed:
            raise
        # A transaction that was idle for too long; and from a pooler two answers at once.
        raise psycopg.OperationalError(brief(error)) from error


@contextmanager
def transaction(conn: Connection[Any], *, lock_wait_s: float) -> Iterator[Connection[Any]]:
    begin(conn, lock_wait_s=lock_wait_s)
    with ended(conn):
        yield conn


def keep(conn: Connection[Any]) -> None:
    """Set the whole session as this transaction is: only where nobody else ever has it."""
    conn.execute(_SQL["keep"])


def statement_timeout(conn: Connection[Any]) -> str:
    """How long a statement may take by the role's own settings."""
    row = conn.execute(_SQL["statement_timeout"]).fetchone()
    return str(row[0]) if row is not None else "0"


def backend(conn: Connection[Any]) -> int:
    """The process of the server that serves this connection now."""
    row = conn.execute(_SQL["backend"]).fetchone()
    return 0 if row is None else int(row[0])


def identity(conn: Connection[Any]) -> tuple[int, int] | None:
    """The cluster and the database in it: equal wherever the same database is reached. None where
    that may not be asked.
    """
    with suppress(psycopg.errors.InsufficientPrivilege):
        row = conn.execute(_SQL["identity"]).fetchone()
        return None if row is None else (int(row[0]), int(row[1]))
    return None


def is_of_server(conn: Connection[Any]) -> bool:
    """Whether the server itself opened this connection, and no pooler did."""
    return backend(conn) == conn.info.backend_pid


def settle(conn: Connection[Any]) -> None:
    """Once on each new connection: what a session has, where it is ours alone.

    Nothing relies on it. A statement that is prepared takes half of the server's time; a pooler
    would let it be asked for in a session that does not know it.
    """
    if is_of_server(conn):
        conn.execute(_SQL["watch"], prepare=False)
    else:
        conn.prepare_threshold = None


def take_turns(conn: Connection[Any], other: Connection[Any]) -> bool:
    """Whether two connections in autocommit mode have the same sessions in turn.

    If so, that is certain. A pooler hands out the session that was used last, which the second one
    gets then, or the one that was idle longest, which is another one each time.
    """
    first = backend(conn)
    return any(backend(conn) != first for _ in range(ASKED)) or any(
        backend(other) == first for _ in range(ASKED)
    )


def holders(conn: Connection[Any], spaces: Sequence[int]) -> list[Holder]:
    """The sessions that most likely keep others waiting, the likeliest first.

    Args:
        spaces: the first numbers of our advisory locks.
    """
    return [Holder(*row) for row in conn.execute(_SQL["holders"], {"spaces": list(spaces)})]


def sweeping(conn: Connection[Any], space: int) -> Holder | None:
    """The session that has the lock of the sweep."""
    row = conn.execute(_SQL["sweeping"], {"space": space}).fetchone()
    return None if row is None else Holder(*row)


def long_held(
    conn: Connection[Any], spaces: Sequence[int], *, seconds: float
) -> list[tuple[int, int, Holder]]:
    """The two numbers of our locks that somebody has held for so long, with who that is."""
    rows = conn.execute(_SQL["long_held"], {"spaces": list(spaces), "seconds": seconds})
    return [(int(space), int(number), Holder(*holder)) for *holder, space, number in rows]


def described(found: Iterable[Holder]) -> str:
    """Holders in one line, for a message."""
    return "; ".join(map(str, found)) or "a session that has ended since"


def brief(error: Exception) -> str:
    """The first line of a driver's message, without the connection string it may quote."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def dependents(error: psycopg.Error) -> str:
    """What depends on an object that was not dropped because of it, in one line."""
    return "; ".join((error.diag.message_detail or str(error)).splitlines())

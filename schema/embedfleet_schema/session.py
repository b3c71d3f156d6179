"""What every connection of ours is set to, whatever the role, the database or the server say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from embedfleet_schema.statements import load

_SQL = load("session")

CONNECT_TIMEOUT_S = 5
# How long a transaction may wait for its own process: one that is frozen gives its locks back then.
IDLE_S = 60.0
# How long a statement waits for a lock, where no setting says otherwise.
LOCK_WAIT_S = 60.0
# From this version on a role may have a limit for whole transactions.
TRANSACTION_TIMEOUT_SINCE = 170_000

# A worker that loses its network notices within a minute instead of after two hours.
_KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
_SETTINGS = {
    # Names of ours are qualified. Nothing that others made, in `public` or in temporary tables, is
    # found by the rest; "pg_temp" is named to come last, it would be searched first otherwise.
    "search_path": "pg_catalog, pg_temp",
    # The same for the server, which would keep the locks of a machine that lost its power.
    **{f"tcp_{name}": str(value) for name, value in _KEEPALIVE.items()},
    "tcp_user_timeout": "50s",
    # An index, a migration or an audit takes its time; a search keeps to the role's own limit.
    "statement_timeout": "0",
    "idle_session_timeout": "0",
    # What the driver can read, and what the statements are written for.
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
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


def set_up(conn: Connection[Any], *, lock_wait_s: float) -> str:
    """Set a new connection up; returns the `statement_timeout` that its role had."""
    wanted = _SETTINGS | {
        "lock_timeout": f"{max(1.0, lock_wait_s * 1e3):.0f}",
        "idle_in_transaction_session_timeout": f"{IDLE_S * 1e3:.0f}",
    }
    if conn.info.server_version >= TRANSACTION_TIMEOUT_SINCE:
        wanted["transaction_timeout"] = "0"
    values = {"names": list(wanted), "values": list(wanted.values())}
    row = conn.execute(_SQL["set_up"], values).fetchone()
    return str(row[0]) if row is not None else "0"


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
    return "; ".join(map(str, found)) or "a session that has ended meanwhile"


def brief(error: Exception) -> str:
    """The first line of a driver's message, without the connection string it may quote."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

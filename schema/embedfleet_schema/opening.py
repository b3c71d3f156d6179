"""Bare connections: opened as ours are, errors in plain words; what is done with one has to begin
with `session`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import psycopg
from psycopg import Connection

from embedfleet_schema import session
from embedfleet_schema.addresses import redacted
from embedfleet_schema.database_errors import DatabaseUnreachable
from embedfleet_schema.passwords import NoPassword, passwords_of

# Otherwise who answers may not be the server, and ask for the password in clear.
PROVEN = ("verify-ca", "verify-full")


@contextmanager
def reached(url: str) -> Iterator[None]:
    try:
        yield
    except psycopg.OperationalError as error:
        raise DatabaseUnreachable(url=redacted(url), reason=session.brief(error)) from error


def identity(url: str) -> tuple[int, int] | None:
    with reached(url), opened(url) as conn:
        return session.identity(conn)


def is_pooled(url: str, conn: Connection[Any]) -> bool:
    if session.is_of_server(conn):
        return False
    with opened(url) as other:
        return session.take_turns(conn, other)


@contextmanager
def closed_on_error(conn: Connection[Any]) -> Iterator[Connection[Any]]:
    try:
        yield conn
    except BaseException:
        conn.close()
        raise


def class_for_pool(first: Connection[Any], url: str) -> type[Connection[Any]]:
    """What a pool takes for the class of its connections: it opens `first`, then others."""
    ready = iter([first])
    opener = SimpleNamespace(connect=lambda *_, **__: next(ready, None) or opened(url))
    return cast("type[Connection[Any]]", opener)


def opened(url: str) -> Connection[Any]:
    """A connection in autocommit mode.

    Raises:
        DatabaseUnreachable: the URL cannot be read, or what gives the password gives none.
        OperationalError: nobody answers; `reached` translates it.
    """
    try:
        conn = _logged_in(url)
    except NoPassword as error:
        raise DatabaseUnreachable(url=redacted(url), reason=str(error)) from error
    except psycopg.ProgrammingError:
        # The driver's message quotes the URL, password and all.
        raise DatabaseUnreachable(url=redacted(url), reason="it cannot be read") from None
    with closed_on_error(conn):
        session.settle(conn)
    return conn


def _logged_in(url: str) -> Connection[Any]:
    """With the password that counts now, where something gives it."""
    found = session.parameters(url)
    passwords = passwords_of(url)
    if passwords is None:
        return psycopg.connect(**found, autocommit=True)
    if found.get("sslmode") not in PROVEN:
        found.setdefault("require_auth", "scram-sha-256")
    given = passwords.current()
    try:
        return psycopg.connect(**found | {"password": given}, autocommit=True)
    except psycopg.OperationalError as error:
        if error.pgconn is None or not error.pgconn.used_password:
            raise
        # The server asked for it, and it may have changed since it was given.
        newer = passwords.current(refused=given)
        if newer == given:
            raise
    return psycopg.connect(**found | {"password": newer}, autocommit=True)

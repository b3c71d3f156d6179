"""Roles: one owner of the tables, and one group for each part of the fleet, with its rights.

They are an offer. Without them one user owns everything and nothing is granted. What belongs to no
collection is set up in one transaction; then the collections follow, a few in each, because no
transaction has locks for all of them. Nothing is taken away that is not given back at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import Connection

from embedfleet_schema.database import LOCK_SPACE, Database
from embedfleet_schema.database_errors import RolesRefused
from embedfleet_schema.session import brief
from embedfleet_schema.statements import load

ROLES = (
    "embedfleet_owner",
    "embedfleet_producer",
    "embedfleet_worker",
    "embedfleet_search",
    "embedfleet_ask",
    "embedfleet_monitor",
)

_SQL = load("roles")
_SET_UP = ("create", "join_owner", "open_database", "adopt")
_GRANTS = (
    "act_as_owner",
    "take_back",
    "grant_to_all",
    "grant_to_producer",
    "grant_to_worker",
    "grant_to_search",
    "grant_to_ask",
    "grant_to_monitor",
)
# Parts of collections that change in one transaction: each locks up to twenty relations.
PAGE = 5
_REFUSALS = (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidGrantOperation)


def set_up_roles(url: str) -> None:
    """Create the roles, hand the tables to their owner, grant to each what it needs.

    The tables must be there at the newest revision. Running it again mends what differs, and goes
    on where it was cut off.

    Raises:
        RolesRefused: the user may not create roles or does not own the tables.
        DatabaseUnreachable: nobody answers at `url`.
    """
    _run(url, (*_SET_UP, *_GRANTS), adopt=True)


def renew_grants(url: str) -> None:
    """Grant rights on what a migration made; does nothing where the roles are not in use."""
    with Database(url).connect() as conn:
        row = conn.execute(_SQL["in_use"]).fetchone()
    if row is not None and row[0]:
        _run(url, _GRANTS)


def code_of_others(conn: Connection[Any]) -> list[str]:
    """What hangs on our tables and would run with the rights of a superuser who touches them.

    Empty for everybody who has no more rights than the owner of the tables.
    """
    return [what for (what,) in conn.execute(_SQL["code_of_others"])]


def _run(url: str, names: tuple[str, ...], *, adopt: bool = False) -> None:
    db = Database(url)
    with db.direct() as conn:
        try:
            _execute(conn, names)
            if adopt:
                _follow(conn, "adopt_parts", ())
            _follow(conn, "grant_parts", ("act_as_owner",))
        except _REFUSALS as error:
            raise RolesRefused(url=db.name, reason=brief(error)) from error


def _execute(conn: Connection[Any], names: tuple[str, ...], scripts: Sequence[str] = ()) -> None:
    with conn.transaction():
        conn.execute(_SQL["lock"], {"space": LOCK_SPACE})
        for name in names:
            conn.execute(_SQL[name])
        for script in scripts:
            conn.execute(script.encode())


def _follow(conn: Connection[Any], listing: str, before: tuple[str, ...]) -> None:
    """Run the scripts that a statement lists, until it lists no new one: collections come
    meanwhile, and where one goes, the rest of its page is tried again.
    """
    done: set[str] = set()
    while left := [each for _, each in conn.execute(_SQL[listing]) if each not in done]:
        for start in range(0, len(left), PAGE):
            page = left[start : start + PAGE]
            with suppress(psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction):
                _execute(conn, before, page)
                done.update(page)

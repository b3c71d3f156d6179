"""Roles: one owner of the tables, and one group for each part of the fleet, with its rights.

They are an offer. Without them one user owns everything and nothing is granted.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import Connection

from embedfleet_schema.database import LOCK_SPACE, Database
from embedfleet_schema.errors import RolesRefused
from embedfleet_schema.session import brief
from embedfleet_schema.statements import load

ROLES = ("embedfleet_owner", "embedfleet_producer", "embedfleet_worker", "embedfleet_search")

_SQL = load("roles")
_SET_UP = ("create", "join_owner", "open_database", "adopt")
_GRANTS = (
    "act_as_owner",
    "take_back",
    "grant_to_all",
    "grant_to_producer",
    "grant_to_worker",
    "grant_to_search",
    "grant_relations",
)
_REFUSALS = (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidGrantOperation)


def set_up_roles(url: str) -> None:
    """Create the roles, hand the tables to their owner, grant to each what it needs.

    The tables must be there at the newest revision. Running it again mends what differs.

    Raises:
        RolesRefused: the user may not create roles or does not own the tables.
        DatabaseUnreachable: nobody answers at `url`.
    """
    _run(url, (*_SET_UP, *_GRANTS))


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


def _run(url: str, names: tuple[str, ...]) -> None:
    db = Database(url)
    with db.connect() as conn:
        try:
            conn.execute(_SQL["lock"], {"space": LOCK_SPACE})
            for name in names:
                conn.execute(_SQL[name])
        except _REFUSALS as error:
            raise RolesRefused(url=db.name, reason=brief(error)) from error

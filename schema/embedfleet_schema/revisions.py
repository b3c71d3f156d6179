"""Which revision the tables have, and which one this program needs: told without Alembic."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from psycopg import Connection

from embedfleet_schema.statements import load

_SQL = load("revisions")


@cache
def newest() -> str:
    """The newest revision: the number that the last file in `migrations/versions` starts with."""
    versions = files("embedfleet_schema").joinpath("migrations", "versions")
    names = (entry.name for entry in versions.iterdir() if entry.name.endswith(".py"))
    return max(name.split("_", 1)[0] for name in names)


def stored(conn: Connection[Any]) -> str | None:
    """The revision of the tables; None where there are none."""
    there = conn.execute(_SQL["table"]).fetchone()
    if there is None or there[0] is None:
        return None
    row = conn.execute(_SQL["stored"]).fetchone()
    return row[0] if row else None

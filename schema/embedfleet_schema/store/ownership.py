"""What only the owner of the schema may do, by roles that may act as it."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from embedfleet_schema.statements import load

_SQL = load("roles")


def become_owner(conn: Connection[Any]) -> None:
    """Act as the owner of the schema until the transaction ends.

    Raises:
        NotPermitted: the user may not, once the transaction is left.
    """
    conn.execute(_SQL["become_owner"], {"until_commit": True})

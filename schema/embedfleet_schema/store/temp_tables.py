"""The temporary tables of a producer's window."""

from __future__ import annotations

import hashlib
from typing import Any

from psycopg import Connection, sql

from embedfleet_schema.statements import load

_SQL = load("temp_tables")

_made = hashlib.sha256(_SQL["create"].as_string(None).encode()).hexdigest()[:8]
# What stands for them in statements.
TABLES = {name: sql.Identifier(f"{name}_{_made}") for name in ("incoming_chunk", "incoming_text")}
_CREATE = _SQL["create"].format(**TABLES)


def create(conn: Connection[Any]) -> None:
    """Make them where the session does not have them."""
    conn.execute(_CREATE, prepare=False)

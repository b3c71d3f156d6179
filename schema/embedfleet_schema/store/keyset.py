"""A walk through a collection, a range of numbers at a time: none of its statements takes long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from psycopg import Connection, sql

from embedfleet_schema.database import Database

# Rows that the ranges are cut by.
PAGE = 10_000
# Where a walk begins and ends, so that its ranges hold every number there is.
LEAST, MOST = -(2**63), 2**63 - 1


def end(
    conn: Connection[Any], following: sql.Composed, values: Mapping[str, Any], after: int
) -> int:
    """The last number of the range that begins after one.

    Args:
        following: the statement that gives the last of at most `limit` numbers after `after`, or
            NULL.
    """
    row = conn.execute(following, {**values, "after": after, "limit": PAGE}).fetchone()
    return MOST if row is None or row[0] is None else int(row[0])


def ranges(db: Database, following: sql.Composed) -> Iterator[dict[str, int]]:
    """All ranges, as values of a statement: numbers above `after`, up to `until`."""
    after = LEAST
    while after < MOST:
        with db.transaction() as conn:
            until = end(conn, following, {}, after)
        yield {"after": after, "until": until}
        after = until

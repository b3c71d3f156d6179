"""How long the lanes let jobs wait."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.rows import class_row

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.turns import Lane

_SQL = load("lanes")

# The newest jobs that are looked at, so that it stays quick.
JOBS = 5_000


@dataclass(frozen=True, slots=True)
class LaneTimes:
    """How long the last `jobs` of a lane took, from the call until their last text was searchable:
    half of them at most `p50_s`, and 95 of 100 at most `p95_s`.
    """

    lane: Lane
    jobs: int
    p50_s: float
    p95_s: float


def times(db: Database) -> list[LaneTimes]:
    """Of each lane, over the newest jobs that ended within a day."""
    with db.transaction() as conn, conn.cursor(row_factory=class_row(LaneTimes)) as cursor:
        return cursor.execute(_SQL["times"], {"jobs": JOBS}).fetchall()

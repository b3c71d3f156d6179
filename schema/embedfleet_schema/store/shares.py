"""Fair shares of tenants: the start tags of batches, by which workers claim them.

A tag is reckoned as a batch is made, by start-time fair queuing, so a claim asks for no tenant.
In each lane of a queue, tenants take turns by tokens, for each space by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.rows import class_row

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.store import counters

_SQL = load("shares")
RESERVE = _SQL["reserve"].format(virtual_time=_SQL["virtual_time"], weight=_SQL["weight"])
# A part of statements elsewhere.
BEHIND = _SQL["behind"]


class Line(NamedTuple):
    """Where a tenant takes its turns: batches of one space in one lane of a queue."""

    space_id: int
    queue: str
    priority: int
    tenant: str


@dataclass(frozen=True, slots=True)
class TenantInfo:
    """A tenant with a weight that was set, or with work: its jobs that have open batches, and the
    texts and tokens that wait in these.
    """

    name: str
    weight: float
    jobs: int
    queued: int
    tokens: int


def reserve(conn: Connection[Any], line: Line, tokens: Sequence[int]) -> list[float]:
    """The start tags of the next batches of a tenant, of so many tokens each.

    Others of the tenant who reserve wait until the transaction ends: call it at its end.
    """
    if not tokens:
        return []
    values = {**line._asdict(), "tokens": sum(tokens)}
    finish, weight = conn.execute(RESERVE, values).fetchone() or (0.0, 1.0)
    tags: list[float] = []
    for each in reversed(tokens):
        finish -= each / weight
        tags.append(finish)
    return tags[::-1]


def place(conn: Connection[Any], ids: Sequence[int]) -> None:
    """Put batches that wait behind the others of their tenants, each charged for its tokens."""
    if not ids:
        return
    rows = conn.execute(_SQL["to_place"], {"ids": list(ids)}).fetchall()
    placed: list[int] = []
    tags: list[float] = []
    for line, group in groupby(rows, lambda row: Line(*row[1:5])):
        found = list(group)
        placed += [row[0] for row in found]
        tags += reserve(conn, line, [row[5] for row in found])
    conn.execute(_SQL["place"], {"ids": placed, "start_tags": tags})


def set_weight(db: Database, tenant: str, weight: float) -> None:
    """How much a tenant gets beside others, from its next batches on."""
    with db.transaction() as conn:
        conn.execute(_SQL["set_weight"], {"name": tenant, "weight": weight})


def clear_weight(db: Database, tenant: str) -> bool:
    """Let it have as much as any other; whether a weight was set."""
    with db.transaction() as conn:
        return conn.execute(_SQL["clear_weight"], {"name": tenant}).rowcount > 0


def tenants(db: Database) -> list[TenantInfo]:
    """Those with a weight or with work, by name."""
    statement = _SQL["tenants"].format(of_jobs=counters.OF_JOBS)
    with db.transaction() as conn, conn.cursor(row_factory=class_row(TenantInfo)) as cursor:
        return cursor.execute(statement).fetchall()

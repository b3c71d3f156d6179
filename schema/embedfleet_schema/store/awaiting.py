"""Batches that several jobs want: one has them, and the others wait for them.

Where a job is paused or cancelled, its batches that others wait for go to one of those, and go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from psycopg import Connection

from embedfleet_schema.statements import load
from embedfleet_schema.store import counters

_SQL = load("awaiting")
_INHERIT = _SQL["inherit"].format(**counters.OF_BATCHES)

# Where the job and the space of a batch stand, which nobody leases.
Standing = Literal["pending", "held", "cancelled"]


def await_batches(conn: Connection[Any], job_id: int, batches: Mapping[int, int]) -> set[int]:
    """Say that a job waits for batches, which the caller holds, and for how many texts of each;
    returns those of other jobs.
    """
    if not batches:
        return set()
    values = {"job_id": job_id, "batches": list(batches), "texts": list(batches.values())}
    return {batch_id for (batch_id,) in conn.execute(_SQL["await"], values)}


def inherit(
    conn: Connection[Any], ids: Sequence[int], *, leaving: bool = False
) -> dict[int, Standing]:
    """Give batches whose jobs were stopped to jobs that wait for them; returns where those stand,
    by batch. The caller has locked them. What is leased goes only as it is `leaving`.
    """
    rows = conn.execute(_INHERIT, {"ids": list(ids), "leaving": leaving, "vectors": 0})
    return dict(rows.fetchall())

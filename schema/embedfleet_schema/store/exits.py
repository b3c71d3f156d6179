"""The ways out of a lease, inside the transaction of who found its fence: worker or sweeper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from psycopg import Connection, sql

from embedfleet_schema.statements import load
from embedfleet_schema.store import documents
from embedfleet_schema.types import CollectionInfo

_SQL = load("batches")

Open = Literal["pending", "held", "cancelled"]

OVERLAP_S = 1.0
OVERLAP_REASON = "another batch is just embedding some of its texts"


def standing(*, paused: bool, cancelled: bool) -> Open:
    """The state of an open batch whose job or space is paused, or whose job is cancelled."""
    if cancelled:
        return "cancelled"
    return "held" if paused else "pending"


def finish(
    conn: Connection[Any],
    collection: CollectionInfo,
    batch_id: int,
    state: str,
    reason: str | None = None,
    *,
    inserted: int = 0,
    failed: int = 0,
) -> None:
    """Close a batch; `inserted` are vectors of it that are not counted yet."""
    values = {"id": batch_id, "state": state, "reason": reason}
    conn.execute(
        _SQL["finish"].format(vectors=sql.Identifier(collection.vectors)),
        values | {"inserted": inserted, "failed": failed},
    )


def release(
    conn: Connection[Any],
    batch_id: int,
    state: Open,
    *,
    delay_s: float | None,
    charge: int,
    reason: str,
    wait_s: float | None = None,
) -> None:
    """Give a lease up; without a delay the batch keeps its place in the queue.

    `wait_s` is told in words only: nobody is kept from claiming it.
    """
    conn.execute(
        _SQL["release"],
        {
            "id": batch_id,
            "state": state,
            "delay_seconds": delay_s,
            "charge": charge,
            "reason": reason if wait_s is None else reason.rstrip("."),
            "wait_seconds": wait_s,
        },
    )


def wait_for_others(conn: Connection[Any], batch_id: int) -> None:
    """Give a claim up for a moment, because others embed some of the texts."""
    release(conn, batch_id, "pending", delay_s=OVERLAP_S, charge=0, reason=OVERLAP_REASON)


def missing(
    conn: Connection[Any], collection: CollectionInfo, hashes: Sequence[bytes]
) -> list[bytes]:
    """Those of a batch's texts that have no vector, in their order."""
    statement = _SQL["left"].format(vectors=sql.Identifier(collection.vectors))
    return [bytes(sha256) for (sha256,) in conn.execute(statement, {"hashes": list(hashes)})]


def split(
    conn: Connection[Any],
    collection: CollectionInfo,
    batch_id: int,
    hashes: list[bytes],
    left: list[bytes],
    state: Open,
    reason: str,
) -> list[int]:
    """Halve what is left of a batch; returns documents whose old chunks may go now.

    Its other texts leave the batch here, so what waited only for them goes live here.
    """
    values = {"id": batch_id, "state": state, "hashes": left, "reason": reason}
    conn.execute(_SQL["insert_halves"], values)
    replaced = documents.go_live(conn, collection, hashes)
    finish(conn, collection, batch_id, "split" if left else "done", reason)
    return replaced


def fail(
    conn: Connection[Any],
    collection: CollectionInfo,
    batch_id: int,
    hashes: list[bytes],
    left: list[bytes],
    code: str,
    reason: str,
) -> list[int]:
    """Record failures of what is left of a batch and close it; returns documents whose old chunks
    may go now.
    """
    failed = conn.execute(
        _SQL["record_failure"].format(vectors=sql.Identifier(collection.vectors)),
        {"id": batch_id, "hashes": left, "code": code, "reason": reason},
    ).rowcount
    replaced = documents.go_live(conn, collection, hashes)
    state = "dead" if failed else "done"
    finish(conn, collection, batch_id, state, f"{code}: {reason}", failed=failed)
    return replaced

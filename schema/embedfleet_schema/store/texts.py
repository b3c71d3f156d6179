"""Where the texts of a collection stand: one condition, and the statements that share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection, sql

from embedfleet_schema.statements import composed, load
from embedfleet_schema.types import CollectionInfo

_SQL = load("texts")


def still_without(
    conn: Connection[Any], collection: CollectionInfo, found: Sequence[tuple[bytes, int]]
) -> list[tuple[bytes, int]]:
    """Of (sha256, tokens) pairs that were found without the collection's lock, those that are still
    used and have no vector, now that it is held.

    A text that somebody queued meanwhile is queued twice, and embedded once: its second batch is
    put off while the first is under way, and then finds the vector.
    """
    values = {
        "hashes": [sha256 for sha256, _ in found],
        "tokens": [tokens for _, tokens in found],
    }
    rows = conn.execute(composed(_SQL["still_without"], collection), values)
    return [(bytes(sha256), tokens) for sha256, tokens in rows]


def judging(statement: sql.SQL, collection: CollectionInfo) -> sql.Composed:
    """The statement for this collection: {judged} is that condition."""
    return composed(statement, collection, judged=composed(_SQL["judged"], collection))

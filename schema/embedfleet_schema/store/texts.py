"""Where the texts of a collection stand: one condition, and the statements that share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection, sql

from embedfleet_schema.statements import composed, load
from embedfleet_schema.types import CollectionInfo

_SQL = load("texts")


def still_without(
    conn: Connection[Any], collection: CollectionInfo, found: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Of texts, as (number, tokens), that were found without the collection's lock, those that are
    still used, have no vector and are in no open batch, now that it is held.
    """
    values = {
        "texts": [text_id for text_id, _ in found],
        "tokens": [tokens for _, tokens in found],
    }
    return conn.execute(composed(_SQL["still_without"], collection), values).fetchall()


def judging(statement: sql.SQL, collection: CollectionInfo) -> sql.Composed:
    """The statement for this collection: {judged} is that condition."""
    return composed(statement, collection, judged=composed(_SQL["judged"], collection))

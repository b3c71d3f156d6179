"""Where the texts of a collection stand: one condition, and the statements that share it."""

from __future__ import annotations

from psycopg import sql

from embedfleet_schema.statements import load
from embedfleet_schema.types import CollectionInfo

_SQL = load("texts")


def composed(statement: sql.SQL, collection: CollectionInfo) -> sql.Composed:
    """The statement for this collection: {vectors} is its vector table, {judged} that condition."""
    vectors = sql.Identifier(collection.vectors)
    return statement.format(vectors=vectors, judged=_SQL["judged"].format(vectors=vectors))

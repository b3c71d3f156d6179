"""Keys as people type them, in whichever Unicode form a collection holds them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from psycopg import Connection, sql

from embedfleet_schema.statements import composed, load
from embedfleet_schema.types import CollectionInfo
from embedfleet_schema.unicode_forms import unicode_forms

_SQL = load("documents")


def can_be(key: str) -> bool:
    """Whether a document may have this key: PostgreSQL refuses a list with one that it may not."""
    return key == key.replace("\0", "").encode(errors="ignore").decode()


def as_held(conn: Connection[Any], collection: CollectionInfo, keys: Iterable[str]) -> list[str]:
    """The keys as the collection holds them, of documents and of verdicts.

    A key that it holds as it is means that one, also where it holds another spelling of it.
    """
    asked = {key: unicode_forms(key) for key in keys if can_be(key)}
    every = [spelling for each in asked.values() for spelling in each]
    values = {"collection_id": collection.id, "keys": every}
    held = {key for (key,) in conn.execute(composed(_SQL["held_keys"], collection), values)}
    return [next(filter(held.__contains__, asked[key]), key) for key in asked]


def begins(column: sql.Identifier, prefix: str) -> sql.Composable:
    """The condition that a key begins with `prefix` in any spelling: a collection may hold both.

    It is written for a statement with parameters, where a percent sign would be taken for one.
    """
    each = (sql.Literal(spelling.replace("%", "%%")) for spelling in unicode_forms(prefix))
    either = sql.SQL(" OR ").join(_SQL["begins"].format(key=column, prefix=text) for text in each)
    return sql.SQL("({})").format(either)

"""The indexes of a collection for another one like it: on words, metadata and fields, whoever built
them. That on vectors is chosen by the vectors (`store.vector_index`).
"""

from __future__ import annotations

from typing import Any, LiteralString, NamedTuple

from psycopg import Connection, sql

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.store import index_builds
from embedfleet_schema.store.filter_index import MEMORY_MB, WORKERS
from embedfleet_schema.types import CollectionInfo

_SQL = load("model_changes")


class _Lacking(NamedTuple):
    """An index by its table and its name, and the rest of its definition as PostgreSQL tells it;
    `stale` where there is one of that name.
    """

    table: str
    name: str
    rest: LiteralString
    stale: bool = False


def build(db: Database, collection: CollectionInfo, other: CollectionInfo) -> list[str]:
    """Build for `other` what only `collection` has, beside writers; returns the names.

    What a build that was cut off left behind is dropped first, so it may be called again.
    """
    values = {
        "former": [collection.chunks, collection.texts],
        "other": [other.chunks, other.texts],
    }
    with db.transaction() as conn:
        lacking = _lacking(conn, "lacking_indexes", values)
        statistics = _lacking(conn, "lacking_statistics", values)
    if not lacking:
        return []
    with index_builds.alone(db, other, memory_mb=MEMORY_MB, workers=WORKERS) as conn:
        for each in statistics:
            conn.execute(
                _SQL["create_statistics"].format(
                    name=sql.Identifier(each.name),
                    table=sql.Identifier(each.table),
                    rest=sql.SQL(each.rest),
                )
            )
        for each in lacking:
            statement = _SQL["create_index"].format(
                index=sql.Identifier(each.name),
                table=sql.Identifier(each.table),
                rest=sql.SQL(each.rest),
            )
            stale = [each.name] if each.stale else []
            index_builds.create(conn, other, statement, stale=stale, remains=[each.name])
    return [each.name for each in lacking]


def _lacking(conn: Connection[Any], what: str, values: dict[str, list[str]]) -> list[_Lacking]:
    return [_Lacking(*row) for row in conn.execute(_SQL[what], values)]

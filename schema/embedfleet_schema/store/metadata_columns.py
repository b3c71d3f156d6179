"""Columns of the view that fields of the metadata are, with a type.

They are computed as they are read: no row is longer for one, and none is refused. What has another
type is NULL there. Filters with ranges find rows by the index of the field (`field_index`); those
with equality by the index on all metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import ViewsInTheWay
from embedfleet_schema.errors import ColumnRefused
from embedfleet_schema.session import dependents
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import collections, field_index, locks, ownership
from embedfleet_schema.store.field_index import FieldKind
from embedfleet_schema.types import CollectionInfo

_SQL = load("metadata_columns")

ColumnType = Literal["int", "float", "text", "bool", "date", "timestamp"]


@dataclass(frozen=True, slots=True)
class MetadataColumn:
    """A field of the metadata, a name or a path, as a column of the view: bigint, double precision,
    text, boolean, date (in UTC) or timestamptz. A value of another type is NULL there.
    """

    name: str
    field: str
    type: ColumnType


# The kind of index that serves ranges over a type.
KINDS: Mapping[ColumnType, FieldKind] = {
    "int": "number",
    "float": "number",
    "date": "date",
    "timestamp": "date",
}
OWN = ("id", "document", "position", "content", "metadata", "embedding", "context")
LONGEST_NAME_BYTES = 63


def listed(db: Database, collection: CollectionInfo) -> list[MetadataColumn]:
    """The columns of a collection, in the order of its view."""
    with db.transaction() as conn, conn.cursor(row_factory=class_row(MetadataColumn)) as cursor:
        collections.check_there(conn, collection)
        return cursor.execute(_SQL["list"], {"collection_id": collection.id}).fetchall()


def add(
    db: Database, collection: CollectionInfo, field: str, column_type: ColumnType
) -> MetadataColumn:
    """Show a field as a column, which is called like the last key of its path, and build the index
    that serves ranges over it. Nothing happens where it is there with that type.

    The index comes first, without blocking writers: it may take a while, and only the owner of the
    tables may build it where there are rows.

    Raises:
        BadFilter: `field` is no name in the metadata, and no path.
        ColumnRefused: the view has a column of that name, or cannot have one.
        CollectionGone: it was dropped.
    """
    keys = field_index.keys_of(db, field)
    column = MetadataColumn(keys[-1], field, column_type)
    _check_name(collection, column.name)
    kind = KINDS.get(column_type)
    try:
        _add(db, collection, column, keys, kind)
    except psycopg.errors.ObjectNotInPrerequisiteState:
        if kind is None:
            raise
        field_index.build(db, collection, field, kind)
        _add(db, collection, column, keys, None)
    return column


def remove(db: Database, collection: CollectionInfo, name: str) -> bool:
    """Take a column off the view, and drop its index; returns whether there was one.

    Raises:
        ViewsInTheWay: others read the view; nothing was removed.
        NotPermitted: the user neither owns the schema nor may act as its owner.
    """
    values = {"collection_id": collection.id, "name": name}
    with db.transaction() as conn:
        locks.own(conn, collection.id)
        collections.check_there(conn, collection)
        known = {row[0]: MetadataColumn(*row) for row in conn.execute(_SQL["list"], values)}
        if name not in known:
            return False
        ownership.become_owner(conn)
        try:
            conn.execute(_SQL["remove"], values)
        except psycopg.errors.DependentObjectsStillExist as error:
            raise ViewsInTheWay(name=collection.name, dependents=dependents(error)) from error
    removed = known.pop(name)
    kind = KINDS.get(removed.type)
    if kind is not None and not any(
        each.field == removed.field and KINDS.get(each.type) == kind for each in known.values()
    ):
        field_index.drop(db, collection, removed.field, kind)
    return True


def of_another_type(db: Database, collection: CollectionInfo) -> dict[str, int]:
    """By the names of columns, how many chunks have a value that is NULL there; all are read."""
    with db.transaction() as conn:
        rows = conn.execute(_SQL["expressions"], {"collection_id": collection.id}).fetchall()
        if not rows:
            return {}
        counts = [
            _SQL["count"].format(
                # As the database wrote it, with every name as a literal.
                expression=sql.SQL(expression),
                extracted=sql.SQL(" -> ").join((sql.SQL("c.metadata"), *map(sql.Literal, keys))),
            )
            for _, expression, keys in rows
        ]
        statement = composed(_SQL["of_another_type"], collection, counts=sql.SQL(", ").join(counts))
        found = conn.execute(statement).fetchone() or ()
    return dict(zip((name for name, *_ in rows), found, strict=True))


def _check_name(collection: CollectionInfo, name: str) -> None:
    reason = ""
    if name in OWN:
        reason = "each view has a column of that name"
    elif not name or len(name.encode()) > LONGEST_NAME_BYTES:
        reason = f"a name of PostgreSQL has 1 to {LONGEST_NAME_BYTES} bytes"
    if reason:
        raise ColumnRefused(column=name, name=collection.name, reason=reason)


def _add(
    db: Database,
    collection: CollectionInfo,
    column: MetadataColumn,
    keys: list[str],
    kind: FieldKind | None,
) -> None:
    """In one transaction, with the index of a `kind` where there are no rows."""
    values = {
        "collection_id": collection.id,
        "name": column.name,
        "field": column.field,
        "type": column.type,
    }
    with db.transaction() as conn:
        locks.own(conn, collection.id)
        collections.check_there(conn, collection)
        known = {row[0]: MetadataColumn(*row) for row in conn.execute(_SQL["list"], values)}
        there = known.get(column.name)
        if there is None:
            conn.execute(_SQL["add"], values)
        elif there != column:
            reason = f"it has one of that name, {there.field}:{there.type}. Remove that one first"
            raise ColumnRefused(column=column.name, name=collection.name, reason=reason)
        if kind is not None:
            index = field_index.index_name(collection, keys, kind)
            conn.execute(_SQL["index"], values | {"kind": kind, "index": index})

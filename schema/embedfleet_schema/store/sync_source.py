"""The table that a collection follows: what it is, and whether it can be followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg import Connection
from psycopg.rows import class_row, dict_row

from embedfleet_schema.statements import load
from embedfleet_schema.sync_errors import SyncRefused

_SQL = load("sync_source")

# What PostgreSQL says of a text that names no relation.
_NO_NAME = (
    psycopg.errors.InvalidParameterValue,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.SyntaxError,
)
_UNFIT = {
    "is_ours": "it is one of embedfleet's own",
    "is_temporary": "it is temporary, and only its own session sees it",
    "is_partition": "it is a partition; follow the table that it belongs to",
    "inherits": "it inherits, or is inherited from; only declared partitions can be followed",
    "filtered": "row-level security hides some of its rows from this user, and they would be taken "
    "for deleted. Use a user that has BYPASSRLS, or owns the table",
}
_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


class Column(NamedTuple):
    """A column. `type` is for people; what an `is_builtin` type does is PostgreSQL's own code, and
    the length of what `has_length` is known without reading it.
    """

    name: str
    type: str
    type_schema: str
    type_name: str
    not_null: bool
    is_builtin: bool
    is_enum: bool
    has_length: bool
    readable: bool


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table with the columns that make documents. `order` is the key as its index has it."""

    relation: int
    schema: str
    name: str
    columns: Mapping[str, Column]
    key: Sequence[str]
    text: Sequence[str]
    metadata: Sequence[str]
    order: Sequence[str]

    @property
    def layout(self) -> str:
        """The types of the named columns."""
        named = (*self.key, *self.text, *self.metadata)
        return ", ".join(f"{name} {self.columns[name].type}" for name in named)


def find(conn: Connection[Any], name: str) -> int:
    """The number of the table that a person names, as in SQL.

    Raises:
        SyncRefused: there is none, or that is no name.
    """
    try:
        row = conn.execute(_SQL["find"], {"name": name}).fetchone()
    except _NO_NAME as error:
        reason = 'write its name as in SQL: schema.table, or schema."Table" with capitals'
        raise SyncRefused(table=name, reason=reason) from error
    if row is None or row[0] is None:
        reason = (
            'this database has no such table. Write schema.table, or schema."Table" with capitals'
        )
        raise SyncRefused(table=name, reason=reason)
    return int(row[0])


def describe(
    conn: Connection[Any],
    relation: int,
    called: str,
    *,
    key: Sequence[str],
    text: Sequence[str],
    metadata: Sequence[str],
) -> SourceTable:
    """A table that can be followed.

    Raises:
        SyncRefused: it cannot; the reason says what to do. `called` is its name for that.
    """
    values = {"relation": relation}
    with conn.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_SQL["relation"], values).fetchone()
    if found is None:
        raise SyncRefused(table=called, reason="the table is gone: it was dropped")
    if reason := _unfit(found):
        raise SyncRefused(table=called, reason=reason)
    with conn.cursor(row_factory=class_row(Column)) as of_columns:
        rows = of_columns.execute(_SQL["columns"], values).fetchall()
    columns = {each.name: each for each in rows}
    named = dict.fromkeys((*key, *text, *metadata))
    if lacking := [name for name in named if name not in columns]:
        reason = f"it has no column {', '.join(map(repr, lacking))}; its columns are "
        raise SyncRefused(table=called, reason=reason + ", ".join(columns))
    closed = [name for name in named if not columns[name].readable]
    if closed:
        reason = (
            f"this user may not read {', '.join(closed)}. Its owner grants that with: "
            f"GRANT SELECT ON {called} TO {user(conn)}"
        )
        raise SyncRefused(table=called, reason=reason)
    order = _order(conn, values, called, [columns[name] for name in key])
    schema, name = found["schema"], found["name"]
    return SourceTable(relation, schema, name, columns, key, text, metadata, order)


def user(conn: Connection[Any]) -> str:
    """Who asks, as a GRANT names him."""
    row = conn.execute(_SQL["user"]).fetchone()
    return str(row[0]) if row is not None else "this user"


def _unfit(found: Mapping[str, Any]) -> str | None:
    """Why a relation has no rows that can be followed."""
    if found["kind"] in _KINDS:
        return f"it is {_KINDS[found['kind']]}, whose rows change without a trigger"
    if found["kind"] not in ("r", "p"):
        return "it is no table"
    return next((reason for name, reason in _UNFIT.items() if found[name]), None)


def _order(
    conn: Connection[Any], values: Mapping[str, Any], called: str, key: Sequence[Column]
) -> list[str]:
    for column in key:
        if not column.is_builtin and not column.is_enum:
            reason = f"the type {column.type} of {column.name} is not PostgreSQL's own"
            raise SyncRefused(table=called, reason=f"{reason}; a key needs one that is")
        if not column.not_null:
            reason = f"{column.name} may be NULL, and a key may not: ALTER COLUMN ... SET NOT NULL"
            raise SyncRefused(table=called, reason=reason)
    names = {column.name for column in key}
    for (columns,) in conn.execute(_SQL["unique_index"], values):
        if columns is not None and set(columns) == names:
            return list(columns)
    told = ", ".join(column.name for column in key)
    reason = (
        f"no unique index is on ({told}), so a key would not mean one row: name its primary key"
    )
    raise SyncRefused(table=called, reason=reason)

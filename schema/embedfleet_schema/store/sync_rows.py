"""The rows of a table that a collection follows, as they are now."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import Connection, sql

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.store.sync_source import Column, SourceTable

_SQL = load("sync_rows")


class Row(NamedTuple):
    """A row by its key as a document has it, and what reading it would take."""

    key: str
    text_bytes: int
    metadata_bytes: int


class Content(NamedTuple):
    """What a row says."""

    key: str
    text: str
    metadata: dict[str, Any]


class Page(NamedTuple):
    """Rows in the order of the key; `position` is where the last one stands."""

    rows: list[Row]
    position: list[str]


@contextmanager
def reading(db: Database) -> Iterator[Connection[Any]]:
    """A transaction that reads a table of others: rows are all there, or it is an error."""
    with db.transaction() as conn:
        conn.execute(_SQL["begin_reading"], prepare=False)
        yield conn


def page(db: Database, table: SourceTable, after: Sequence[str] | None, limit: int) -> Page:
    """Rows after a position, in the order of the key."""
    order = [table.columns[name] for name in table.order]
    condition: sql.Composable = _SQL["from_start"]
    values: dict[str, Any] = {"limit": limit}
    if after is not None:
        values |= {f"p{number}": text for number, text in enumerate(after)}
        condition = _SQL["after"].format(
            columns=_listed(_name("t", column.name) for column in order),
            values=_listed(
                _SQL["value_of"].format(
                    value=sql.Placeholder(f"p{number}"),
                    type=_name(column.type_schema, column.type_name),
                )
                for number, column in enumerate(order)
            ),
        )
    statement = _SQL["page"].format(
        **_sizes(table),
        position=_listed(map(_as_text, table.order)),
        table=_name(table.schema, table.name),
        after=condition,
        columns=_listed(_name("t", column.name) for column in order),
    )
    with reading(db) as conn:
        found = conn.execute(statement, values).fetchall()
    rows = [Row(*each[:3]) for each in found]
    return Page(rows, list(found[-1][3]) if found else list(after or ()))


def sized(db: Database, table: SourceTable, keys: Sequence[str]) -> list[Row]:
    """Those of some keys whose rows are there."""
    statement = _SQL["sized"].format(**_sizes(table), **_looked_up(table))
    return [Row(*each) for each in _by_key(db, table, statement, keys)]


def contents(db: Database, table: SourceTable, keys: Sequence[str]) -> list[Content]:
    """What those rows say that are there."""
    pairs = [
        part
        for name in table.metadata
        for part in (sql.Literal(_doubled(name)), _as_json(table.columns[name]))
    ]
    texts = (_SQL["unless_empty"].format(column=_name(name)) for name in table.text)
    statement = _SQL["rows"].format(
        key=_key(table),
        text=_SQL["joined"].format(columns=_listed(texts)),
        metadata=(
            _SQL["metadata"].format(pairs=_listed(pairs)) if pairs else _SQL["no_metadata"].format()
        ),
        **_looked_up(table),
    )
    return [Content(*each) for each in _by_key(db, table, statement, keys)]


def parts_of(table: SourceTable, key: str) -> list[str] | None:
    """The values of the columns that a document's key is made of: of one column its text, of
    several a JSON array. None where a key was made of other columns.
    """
    if len(table.key) == 1:
        return [key]
    try:
        parts = json.loads(key)
    except ValueError:
        return None
    is_key = isinstance(parts, list) and len(parts) == len(table.key)
    return parts if is_key and all(isinstance(each, str) for each in parts) else None


def _by_key(
    db: Database, table: SourceTable, statement: sql.Composed, keys: Sequence[str]
) -> list[tuple[Any, ...]]:
    """A key that cannot be one any more, since a column has another type, has no row."""
    known = [parts for key in keys if (parts := parts_of(table, key)) is not None]
    if not known:
        return []
    values = {f"k{number}": list(column) for number, column in enumerate(zip(*known, strict=True))}
    try:
        with reading(db) as conn:
            return conn.execute(statement, values).fetchall()
    except psycopg.DataError:
        if len(keys) == 1:
            return []
        half = len(keys) // 2
        first = _by_key(db, table, statement, keys[:half])
        return first + _by_key(db, table, statement, keys[half:])


def _looked_up(table: SourceTable) -> dict[str, sql.Composable]:
    """The rows of a list of keys, as `t`."""
    columns = [table.columns[name] for name in table.key]
    names = [_name(f"k{number}") for number in range(len(columns))]
    arrays = (
        _SQL["array_of"].format(
            values=sql.Placeholder(f"k{number}"), type=_name(column.type_schema, column.type_name)
        )
        for number, column in enumerate(columns)
    )
    same = (
        _SQL["same"].format(column=_name(column.name), name=name)
        for column, name in zip(columns, names, strict=True)
    )
    needed = dict.fromkeys((*table.key, *table.text, *table.metadata))
    return {
        "table": _name(table.schema, table.name),
        "columns": _listed(map(_name, needed)),
        "arrays": _listed(arrays),
        "names": _listed(names),
        "same": sql.SQL(" AND ").join(same),
    }


def _sizes(table: SourceTable) -> dict[str, sql.Composable]:
    return {
        "key": _key(table),
        "text_bytes": _sum_of_sizes(table, table.text),
        "metadata_bytes": _sum_of_sizes(table, table.metadata),
    }


def _sum_of_sizes(table: SourceTable, names: Sequence[str]) -> sql.Composable:
    sizes = (
        _SQL["length" if table.columns[name].has_length else "stored_length"].format(
            column=_name(name)
        )
        for name in names
    )
    return sql.SQL(" + ").join(sizes) if names else sql.Literal(0)


def _key(table: SourceTable) -> sql.Composable:
    if len(table.key) == 1:
        return _as_text(table.key[0])
    return _SQL["composite_key"].format(columns=_listed(map(_as_text, table.key)))


def _as_text(name: str) -> sql.Composed:
    return _SQL["as_text"].format(column=_name(name))


def _as_json(column: Column) -> sql.Composed:
    part = "json_of_builtin" if column.is_builtin else "json_of_other"
    return _SQL[part].format(column=_name(column.name))


def _listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)


def _name(*parts: str) -> sql.Identifier:
    return sql.Identifier(*map(_doubled, parts))


def _doubled(name: str) -> str:
    """For a statement with parameters, where a percent sign would be taken for one."""
    return name.replace("%", "%%")

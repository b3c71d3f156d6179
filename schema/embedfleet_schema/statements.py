"""Named SQL: each .sql file holds statements under `-- name: x` lines, read once per process."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import LiteralString

from psycopg import sql

from embedfleet_schema.types import CollectionInfo

_HEADER = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


class Statements(Mapping[str, sql.SQL]):
    """The statements of one file; `{name}` in a statement stands for a composed identifier."""

    def __init__(self, text: str) -> None:
        _, *parts = _HEADER.split(text)
        named = zip(parts[::2], parts[1::2], strict=True)
        self._named = MappingProxyType({name: sql.SQL(_trusted(body)) for name, body in named})

    def __getitem__(self, name: str) -> sql.SQL:
        return self._named[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)


def composed(
    statement: sql.SQL, collection: CollectionInfo, **parts: sql.Composable
) -> sql.Composed:
    """The statement of one collection: {documents}, {chunks}, {texts}, {vectors} are its tables;
    {in_newest} and {in_live} tell which chunks belong to a version.
    """
    if parts:
        return _composed(statement, collection.tables, parts)
    return _of_tables(_trusted(statement.as_string()), collection.tables)


def rendered(statement: sql.Composed) -> sql.Composed:
    """The same in one piece: of several, the driver would put it together at each execution."""
    return sql.Composed([sql.SQL(_trusted(statement.as_string()))])


@lru_cache(maxsize=1_024)
def _of_tables(statement: LiteralString, tables: tuple[str, str, str, str]) -> sql.Composed:
    return rendered(_composed(sql.SQL(statement), tables, {}))


def _composed(
    statement: sql.SQL, tables: tuple[str, str, str, str], parts: Mapping[str, sql.Composable]
) -> sql.Composed:
    names = ("documents", "chunks", "texts", "vectors")
    identifiers = dict(zip(names, map(sql.Identifier, tables), strict=True))
    return statement.format(**identifiers, **load("chunks"), **parts)


def _trusted(body: str) -> LiteralString:
    """Our own files are the only source, so psycopg may take them for literals."""
    trusted: LiteralString = body.strip().removesuffix(";")
    return trusted


@cache
def load(name: str) -> Statements:
    """The statements of `sql/<name>.sql`."""
    return Statements(files("embedfleet_schema").joinpath("sql", f"{name}.sql").read_text())

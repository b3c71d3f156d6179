"""Named SQL: each .sql file holds statements under `-- name: x` lines, read once per process."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
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
    return statement.format(
        documents=sql.Identifier(collection.documents),
        chunks=sql.Identifier(collection.chunks),
        texts=sql.Identifier(collection.texts),
        vectors=sql.Identifier(collection.vectors),
        **load("chunks"),
        **parts,
    )


def _trusted(body: str) -> LiteralString:
    """Our own files are the only source, so psycopg may take them for literals."""
    trusted: LiteralString = body.strip().removesuffix(";")
    return trusted


@cache
def load(name: str) -> Statements:
    """The statements of `sql/<name>.sql`."""
    return Statements(files("embedfleet_schema").joinpath("sql", f"{name}.sql").read_text())

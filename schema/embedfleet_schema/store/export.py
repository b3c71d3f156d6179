"""All that readers see of a collection, as one consistent snapshot, in memory that stays flat."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection, sql

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import collections
from embedfleet_schema.types import CollectionInfo
from embedfleet_schema.vectors import received

_SQL = load("export")

# Documents of one statement, and rows that the client has at once.
DOCUMENTS = 500
ROWS = 256


class ExportedChunk(NamedTuple):
    """A live chunk.

    `metadata` is JSON as PostgreSQL writes it. `chunks` is how many of its document are exported.
    `vector` is float32 or float16 of shape (dimensions,).
    """

    document: str
    position: int
    start: int | None
    end: int | None
    text: str
    context: str | None
    metadata: str
    chunks: int
    vector: NDArray[np.floating[Any]]


def chunks(db: Database, collection: CollectionInfo) -> Generator[list[ExportedChunk]]:
    """The chunks that the view of a collection shows, by key and position, some at a time.

    Nobody else waits for it. It ends with an error if it is asked for no more rows for a minute.

    Raises:
        CollectionGone: it was dropped.
    """
    with db.transaction() as conn:
        conn.execute(_SQL["snapshot"])
        collections.check_there(conn, collection)
        send = sql.Identifier(db.vector_schema, f"{collection.space.storage}_send")
        yield from _pages(conn, collection, composed(_SQL["page"], collection, send=send))


def _pages(
    conn: Connection[Any], collection: CollectionInfo, page: sql.Composed
) -> Iterator[list[ExportedChunk]]:
    values: dict[str, Any] = {"after": "", "limit": DOCUMENTS}
    storage = collection.space.storage
    while True:
        last = conn.execute(composed(_SQL["last"], collection), values).fetchone()
        if last is None or last[0] is None:
            return
        with conn.cursor(name="embedfleet_export") as cursor:
            cursor.execute(page, values, binary=True)
            while rows := cursor.fetchmany(ROWS):
                yield [ExportedChunk._make((*row[:-1], received(row[-1], storage))) for row in rows]
        values["after"] = last[0]

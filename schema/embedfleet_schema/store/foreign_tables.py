"""Tables of other libraries with texts and pgvector vectors, read where they are."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.rows import dict_row

from embedfleet_schema import session
from embedfleet_schema.addresses import redacted
from embedfleet_schema.exchange_errors import ImportRefused
from embedfleet_schema.opening import opened, reached
from embedfleet_schema.statements import load

_SQL = load("foreign_tables")

ROWS = 256
LOCK_WAIT_S = 60.0
# LangChain's former store has these, whatever the collection.
EMBEDDINGS, COLLECTIONS = "langchain_pg_embedding", "langchain_pg_collection"
# The columns of stores with a table for each collection: key, text, metadata, vector.
LLAMAINDEX = ("node_id", "text", "metadata_", "embedding")
LANGCHAIN = ("langchain_id", "content", "langchain_metadata", "embedding")

Row = dict[str, Any]


def rows(
    url: str, table: str, *, schema: str = "public", collection: str | None = None
) -> Generator[Row]:
    """The rows of a table, each with `id`, `text`, `metadata` (JSON) and `vector` as texts, read
    with a cursor: in flat memory, from one snapshot, and nothing is written.

    Args:
        table: `langchain_pg_embedding`, or the table of LangChain's PGVectorStore or of
            LlamaIndex's PGVectorStore (`data_...`).
        collection: of LangChain's former store, whose collections share a table.

    Raises:
        DatabaseUnreachable: nobody answers at `url`.
        ImportRefused: there is no such table or collection, or it has other columns.
    """
    place = f"{redacted(url)}, table {schema}.{table}"
    with reading(url, place) as conn:
        statement, values = _statement(conn, place, schema, table, collection)
        with conn.cursor(name="embedfleet_import", row_factory=dict_row) as cursor:
            cursor.execute(statement, values)
            while page := cursor.fetchmany(ROWS):
                yield from page


@contextmanager
def reading(url: str, place: str) -> Generator[Connection[Any]]:
    """A connection to another program's database in a transaction that cannot write.

    Raises:
        DatabaseUnreachable: nobody answers at `url`.
        ImportRefused: PostgreSQL refuses what is read there; the message names `place`.
    """
    with reached(url):
        conn = opened(url)
    with conn:
        try:
            with session.transaction(conn, lock_wait_s=LOCK_WAIT_S):
                conn.execute(_SQL["read_only"])
                yield conn
        except psycopg.Error as error:
            raise ImportRefused(path=place, reason=session.brief(error)) from error


def _statement(
    conn: Connection[Any], place: str, schema: str, table: str, collection: str | None
) -> tuple[sql.Composed, dict[str, str | None]]:
    name = sql.Identifier(schema, table)
    columns = _columns(conn, name)
    if not columns:
        raise ImportRefused(
            path=place, reason="there is no such table; --table and --schema name it"
        )
    if table == EMBEDDINGS:
        parts = {"embeddings": name, "collections": sql.Identifier(schema, COLLECTIONS)}
        known = [found for (found,) in conn.execute(_SQL["langchain_collections"].format(**parts))]
        if collection is None and len(known) == 1:
            collection = known[0]
        if collection not in known:
            reason = f"name one of its collections: {', '.join(known) or 'it has none'}"
            raise ImportRefused(path=place, reason=reason)
        # Before langchain-postgres, the key had another name.
        key = sql.Identifier("id" if "id" in columns else "uuid")
        return _SQL["langchain"].format(key=key, **parts), {"name": collection}
    for layout in (LLAMAINDEX, LANGCHAIN):
        if set(layout) - {"langchain_metadata"} <= set(columns):
            return _of_table(name, layout, columns), {}
    reason = f"its columns are {', '.join(columns)}: neither LlamaIndex's nor LangChain's"
    raise ImportRefused(path=place, reason=reason)


def _of_table(
    table: sql.Identifier, layout: tuple[str, str, str, str], columns: list[str]
) -> sql.Composed:
    key, text, metadata, vector = map(sql.Identifier, layout)
    stored: sql.Composable = metadata if layout[2] in columns else sql.NULL
    own = [name for name in columns if name not in layout]
    if layout == LANGCHAIN and own:
        pairs = sql.SQL(", ").join(
            part for name in own for part in (sql.Literal(name), sql.Identifier(name))
        )
        stored = sql.SQL("({})").format(_SQL["with_columns"].format(pairs=pairs, metadata=stored))
    return _SQL["table"].format(key=key, text=text, metadata=stored, vector=vector, table=table)


def _columns(conn: Connection[Any], table: sql.Identifier) -> list[str]:
    return [name for (name,) in conn.execute(_SQL["columns"], {"table": table.as_string(conn)})]

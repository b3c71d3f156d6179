"""pgai's catalog, embedding stores and columns, read where they are; nothing is written there."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from psycopg import Connection, sql
from psycopg.rows import dict_row

from embedfleet_schema.addresses import redacted
from embedfleet_schema.exchange_errors import ImportRefused
from embedfleet_schema.statements import load
from embedfleet_schema.store.foreign_tables import ROWS, Row, reading

_SQL = load("pgai")

CATALOG = ("ai", "vectorizer")
# Its columns with the tables of what is to be embedded, and of what failed.
QUEUES = ("queue_table", "queue_failed_table")
CHUNK_ALONE = "$chunk"
# What a text can be read from, and what is no metadata.
TEXT_TYPES = frozenset({"text", "varchar", "bpchar", "citext", "name"})
NO_METADATA = frozenset({"bytea", "tsvector", "vector", "halfvec", "sparsevec", "bit", "varbit"})
# Columns that a template names get these before their names in the rows that are read.
_OF = "of "

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vectorizer:
    """A row of pgai's catalog. The `config` is as pgai wrote it; its parts are looked up here,
    because earlier versions kept some of them elsewhere.

    `columns` are those of the source, each with its type: empty where the table is gone.
    """

    id: int
    name: str
    source: tuple[str, str]
    keys: Names
    queues: tuple[tuple[str, str], ...]
    store: tuple[str, str] | None
    column: str | None
    loading: str | None
    config: Mapping[str, Any]
    columns: Mapping[str, str]
    disabled: bool = False

    def part(self, name: str) -> Mapping[str, Any]:
        """A part of the configuration; empty where there is none."""
        found = self.config.get(name)
        return found if isinstance(found, Mapping) else {}

    @property
    def template(self) -> str:
        """What pgai made the embedded text with."""
        return str(self.part("formatting").get("template") or CHUNK_ALONE)

    @property
    def text_column(self) -> str | None:
        """The column that the text is in; None where it is loaded or parsed from a file."""
        name = self.loading
        if name is None or self.part("loading").get("implementation", "column") != "column":
            return None
        return name if self.columns.get(name) in TEXT_TYPES else None

    @property
    def plain_columns(self) -> list[str]:
        """The columns of the source that can be metadata."""
        taken = {*self.keys, self.text_column, self.column}
        return [
            name
            for name, kind in self.columns.items()
            if name not in taken and kind.lstrip("_") not in NO_METADATA
        ]


@dataclass(frozen=True, slots=True)
class Found:
    """What a vectorizer has embedded, and how many rows wait for it or failed."""

    documents: int
    chunks: int
    waiting: int


def vectorizers(url: str) -> list[Vectorizer]:
    """All vectorizers of a database, by number.

    Raises:
        DatabaseUnreachable: nobody answers at `url`.
        ImportRefused: pgai is not installed there, or its catalog may not be read.
    """
    place = redacted(url)
    with reading(url, place) as conn:
        if not _columns(conn, CATALOG):
            reason = (
                "pgai is not installed there (no table ai.vectorizer); name the URL of its database"
            )
            raise ImportRefused(path=place, reason=reason)
        found = conn.execute(_SQL["catalog"].format(catalog=sql.Identifier(*CATALOG)))
        return [_vectorizer(conn, row) for (row,) in found.fetchall()]


def count(url: str, vectorizer: Vectorizer) -> Found:
    """What of a vectorizer is there to be taken over."""
    with reading(url, _place(url, vectorizer)) as conn:
        parts = _parts(vectorizer, ())
        (waiting,) = _one(conn, _SQL["waiting"].format(**parts))
        if vectorizer.store is not None:
            documents, chunks = _one(conn, _SQL["stored"].format(**parts))
        else:
            (documents,) = _one(conn, _SQL["filled"].format(**parts))
            chunks = documents
        return Found(documents, chunks, waiting)


def rows(url: str, vectorizer: Vectorizer, metadata: Sequence[str]) -> Generator[Row]:
    """What a vectorizer embedded, in the columns of an export of ours, from one snapshot.

    The `text` is what was embedded: the template is filled in where pgai does not keep it.
    """
    statement = "rows" if vectorizer.store is None else "chunks"
    for row in _read(url, vectorizer, statement, metadata):
        if vectorizer.store is None:
            of = {name: row.pop(name) for name in list(row) if name.startswith(_OF)}
            values = {name.removeprefix(_OF): value for name, value in of.items()}
            row["text"] = Template(vectorizer.template).substitute(values, chunk=row["text"])
        yield row


def texts(url: str, vectorizer: Vectorizer, metadata: Sequence[str]) -> Generator[Row]:
    """The `key`, `text` and `metadata` of each row of the source as it is now."""
    yield from _read(url, vectorizer, "texts", metadata)


def _read(
    url: str, vectorizer: Vectorizer, statement: str, metadata: Sequence[str]
) -> Generator[Row]:
    with (
        reading(url, _place(url, vectorizer)) as conn,
        conn.cursor(name="embedfleet_import", row_factory=dict_row) as cursor,
    ):
        cursor.execute(_SQL[statement].format(**_parts(vectorizer, metadata)))
        while page := cursor.fetchmany(ROWS):
            yield from page


def _vectorizer(conn: Connection[Any], row: Row) -> Vectorizer:
    config = row["config"]
    destination = config.get("destination") or {"implementation": "table"} | row
    is_table = destination["implementation"] == "table"
    store = (destination["target_schema"], destination["target_table"]) if is_table else None
    queues = [(row["queue_schema"], row[name]) for name in QUEUES if row.get(name)]
    source = (row["source_schema"], row["source_table"])
    keys = sorted(row["source_pk"], key=lambda key: key["pknum"])
    loading = config.get("loading") or {}
    return Vectorizer(
        row["id"],
        row.get("name") or "_".join(store or source),
        source,
        tuple(key["attname"] for key in keys),
        tuple(queues),
        store,
        destination.get("embedding_column"),
        # Before pgai 0.10 it was a part of the chunking.
        loading.get("column_name") or config["chunking"].get("chunk_column"),
        config,
        _columns(conn, source),
        bool(row.get("disabled")),
    )


def _columns(conn: Connection[Any], table: tuple[str, str]) -> dict[str, str]:
    name = sql.Identifier(*table).as_string(conn)
    return dict(conn.execute(_SQL["columns"], {"table": name}).fetchall())


def _one(conn: Connection[Any], statement: sql.Composed) -> tuple[int, ...]:
    row = conn.execute(statement).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without groups gives a row
    return tuple(row)


def _parts(vectorizer: Vectorizer, metadata: Sequence[str]) -> dict[str, sql.Composable]:
    """What the statements leave open. `t` is the embedding store, `s` the source, `w` the queue."""
    of = "s" if vectorizer.store is None else "t"
    other = "w" if vectorizer.store is None else "s"
    keys = _of(of, vectorizer.keys)
    pairs = zip(keys, _of(other, vectorizer.keys), strict=True)
    named = [] if vectorizer.store else Template(vectorizer.template).get_identifiers()
    return {
        "source": sql.Identifier(*vectorizer.source),
        "store": sql.Identifier(*(vectorizer.store or vectorizer.source)),
        "keys": _listed(keys),
        "key": _key(keys),
        "source_key": _key(_of("s", vectorizer.keys)),
        "joined": sql.SQL(" AND ").join(sql.SQL("{} = {}").format(*pair) for pair in pairs),
        "waiting": _waiting(vectorizer),
        "text": sql.Identifier(vectorizer.text_column or ""),
        "vector": sql.Identifier(vectorizer.column or ""),
        "metadata": _metadata(metadata),
        "formatted_with": sql.Composed(
            [
                sql.SQL(", s.{} AS {}").format(sql.Identifier(name), sql.Identifier(_OF + name))
                for name in named
                if name != "chunk"
            ]
        ),
    }


def _waiting(vectorizer: Vectorizer) -> sql.Composable:
    """The keys that are in the queue, or failed."""
    keys = _listed(map(sql.Identifier, vectorizer.keys))
    queues = (sql.Identifier(*queue) for queue in vectorizer.queues)
    return sql.SQL(" UNION ").join(_SQL["queued"].format(keys=keys, queue=each) for each in queues)


def _key(keys: Sequence[sql.Composable]) -> sql.Composed:
    """The key of a document as a sync of the same table writes it (`sync_rows`): one column as
    text, several as an array of their texts in JSON.
    """
    texts = [sql.SQL("concat({})").format(key) for key in keys]
    if len(texts) == 1:
        return texts[0]
    return sql.SQL("jsonb_build_array({})::text").format(_listed(texts))


def _metadata(names: Sequence[str]) -> sql.Composable:
    if not names:
        return sql.Literal("{}")
    return _SQL["metadata"].format(columns=_listed(_of("s", names)))


def _of(table: str, names: Iterable[str]) -> list[sql.Composable]:
    return [sql.Identifier(table, name) for name in names]


def _listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)


def _place(url: str, vectorizer: Vectorizer) -> str:
    return f"{redacted(url)}, vectorizer {vectorizer.name}"

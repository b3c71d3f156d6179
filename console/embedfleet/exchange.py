"""Vectors out of a collection and into it, and how other libraries read it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from embedfleet import arguments
from embedfleet.connections import Connections
from embedfleet.error_translation import translate_errors
from embedfleet.job import Job
from embedfleet.templating import Templating
from embedfleet_schema.addresses import redacted
from embedfleet_schema.errors import ModelMismatch
from embedfleet_schema.exchange_errors import ImportRefused
from embedfleet_schema.store import (
    collections,
    exposed,
    foreign_tables,
    metadata_columns,
    model_changes,
)
from embedfleet_schema.types import CollectionInfo, Document, Rejection

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table

    from embedfleet.exports import Exported
    from embedfleet_producer.enqueue import Enqueued
    from embedfleet_producer.readers import ReadOptions, ReadReport

URLS = ("postgresql://", "postgres://")


def store_rows(
    connections: Connections,
    collection: CollectionInfo,
    rows: Iterable[Document | Rejection],
    *,
    vouched: bool,
    replace: bool = False,
    on_window: Callable[[Enqueued], None] | None = None,
) -> Job:
    """Store rows with vectors; `vouched` says that a person named their model.

    Raises:
        ModelUnstated: neither the rows nor a person say what made the vectors.
    """
    from embedfleet_producer.enqueue import Producer
    from embedfleet_producer.imports import Imports

    model_changes.check_written(connections.db, collection)
    producer = Producer(
        connections.db, collection, connections.settings, connections.doorbell, replace=replace
    )
    imports = Imports(rows, collection.space, vouched=vouched)
    done = producer.enqueue(imports.documents(), on_window=on_window)
    return Job(connections, done.job_id, done)


def of_database(
    rows: Iterable[foreign_tables.Row], place: str, options: ReadOptions
) -> Iterator[Document | Rejection]:
    """The verdicts on rows whose columns are known; there may be none."""
    from embedfleet_producer.readers.embedded_rows import EmbeddedRows

    reader = EmbeddedRows(place, options, place)
    for number, row in enumerate(rows, 1):
        verdict = reader.verdict(row, number)
        if isinstance(verdict, Document | Rejection):
            yield verdict


@translate_errors
class Exchange(Templating):
    """The part of `Collection` that moves vectors, which are embedded already."""

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,  # noqa: A002 - the word for it
        on_chunks: Callable[[int], None] | None = None,
    ) -> Exported:
        """Write all chunks that readers see, with their vectors, to a file: one snapshot, in flat
        memory. The file appears when it is whole, readable by you only.

        Args:
            path: what it ends with is the format: .parquet, .csv, .jsonl, or .npy for NumPy's
                matrix with the rows as .jsonl beside it.
            format: one of parquet, csv, jsonl, npy, if the name does not tell.
            on_chunks: called with the number of chunks written so far.

        Raises:
            ExportRefused: there is no such format or folder.
            ExportFailed: the file cannot be written; what was there before is still there.
        """
        from embedfleet.exports import write_export

        arguments.words("export", format=format)
        arguments.function("export", "on_chunks", on_chunks)
        self._check_there()
        target = Path(arguments.path("export", "path", path))
        return write_export(
            self._connections.db, self.info, target, form=format, on_chunks=on_chunks
        )

    def import_vectors(
        self,
        path: str | os.PathLike[str],
        *,
        model: str | None = None,
        options: ReadOptions | None = None,
        table: str = foreign_tables.EMBEDDINGS,
        schema: str = "public",
        stored_collection: str | None = None,
        replace: bool = False,
        report: ReadReport | None = None,
        on_window: Callable[[Enqueued], None] | None = None,
    ) -> Job:
        """Store texts with vectors that were made elsewhere. Nothing is embedded, and a document
        goes live as it is stored. What is there already stays; a second run changes nothing.

        A document is taken whole. If the vector of one of its rows has another width, is not
        finite, or is of another model, the document is rejected with that row, and the others go
        on: `job.enqueued.rejections`.

        Args:
            path: a file or a folder of `export`, or JSON Lines, CSV or Parquet of another vector
                database; or the URL of a PostgreSQL database that LangChain or LlamaIndex filled.
            model: the model of the vectors, where the file does not say it. It has to be the one of
                this collection.
            options: columns and keys, where they are not the usual ones.
            table, schema: of a database: LangChain's `langchain_pg_embedding`, or the table of its
                PGVectorStore, or `data_...` of LlamaIndex.
            stored_collection: of `langchain_pg_embedding`, which holds several.
            replace: also replace documents that came from other sources.
            report: as for `read_paths`.
            on_window: called after each committed window with the counts so far.

        Raises:
            ModelMismatch: `model` is not the one of this collection; nothing was stored.
            ModelUnstated: neither the file nor `model` says what made the vectors.
            ImportRefused: there is no such file or table, or it holds no vectors.
        """
        from embedfleet_producer.readers import ReadOptions

        arguments.words("import_vectors", model=model, stored_collection=stored_collection)
        arguments.function("import_vectors", "on_window", on_window)
        self._check_written()
        self._check_model(model)
        options = options or ReadOptions()
        with ExitStack() as opened:
            rows: Iterable[Document | Rejection]
            if isinstance(path, str) and path.startswith(URLS):
                rows = self._of_table(path, table, schema, stored_collection, options)
            else:
                target = Path(arguments.path("import_vectors", "path", path))
                rows = self._of_file(target, options, report, opened)
            return store_rows(
                self._connections,
                self.info,
                rows,
                vouched=model is not None,
                replace=replace,
                on_window=on_window,
            )

    def table(self, metadata: MetaData | None = None) -> Table:
        """The view of the collection as a `Table` of SQLAlchemy 2, with pgvector's type.

        Its columns are those of the view, also those of `add_column`; `metadata` is called
        `metadata_`, because declarative classes need the name.

        Args:
            metadata: where the table is entered; by default a new one.
        """
        from embedfleet_schema.tables.views import view_table

        self._check_there()
        columns = metadata_columns.listed(self._connections.db, self.info)
        return view_table(self.info, metadata, columns)

    def expose(self, library: str = "llamaindex") -> str:
        """Make a view that another library takes for a table of its own; returns its name.

        For LlamaIndex that is `data_<name>`, for its PGVectorStore. It shows what the view of the
        collection shows, and runs with the rights of who reads it. `grant(role, view=True)` opens
        both. Only the owner of the schema can do this.

        Raises:
            ExposeRefused: the schema has something else of that name, or it is too long.
        """
        arguments.choice("expose", "library", library, exposed.LIBRARIES)
        return exposed.expose(self._connections.db, self.info)

    def unexpose(self, library: str = "llamaindex") -> bool:
        """Drop the view that `expose` made; returns whether there was one."""
        arguments.choice("unexpose", "library", library, exposed.LIBRARIES)
        return exposed.unexpose(self._connections.db, self.info)

    def _check_model(self, model: str | None) -> None:
        name = self.info.space.name
        if model is not None and not collections.is_of(self.info, model):
            raise ModelMismatch(name=self.name, existing=name, wanted=model)

    def _of_file(
        self, path: Path, options: ReadOptions, report: ReadReport | None, opened: ExitStack
    ) -> Iterable[Document | Rejection]:
        from embedfleet.exports import rows_beside
        from embedfleet_producer.imports import with_matrix
        from embedfleet_producer.readers import ReaderLimits, read_vectors
        from embedfleet_producer.readers.matrix import MatrixFile, count_lines

        settings = self._connections.settings
        is_matrix = path.suffix.lower() == ".npy"
        rows_path = rows_beside(path) if is_matrix else path
        if is_matrix:
            vectors = opened.enter_context(MatrixFile(path))
            lines = count_lines(rows_path)
            if lines != len(vectors):
                reason = f"it has {len(vectors):,} vectors, and {rows_path.name} {lines:,} lines"
                raise ImportRefused(path=path, reason=reason)
        rows = read_vectors(
            rows_path,
            max_bytes=settings.max_document_bytes,
            limits=ReaderLimits.of(settings),
            options=options,
            report=report,
        )
        return with_matrix(rows, vectors) if is_matrix else rows

    def _of_table(
        self,
        url: str,
        table: str,
        schema: str,
        collection: str | None,
        options: ReadOptions,
    ) -> Iterator[Document | Rejection]:

        arguments.words("import_vectors", url=url, table=table, schema=schema)
        place = f"{redacted(url)}/{schema}.{table}"
        stored = foreign_tables.rows(url, table, schema=schema, collection=collection)
        yield from of_database(stored, place, options)

"""`export` and `import`: vectors that are embedded already, out of a collection and into one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from embedfleet.cli.option_groups import ungrouped
from embedfleet.cli.output import note, one_line, print_json, say
from embedfleet.cli.parameters import Json, Name, optional_unicode, path_text, unicode_text
from embedfleet.cli.reading import (
    Delimiter,
    Encoding,
    KeyColumn,
    KeyPrefix,
    MetadataColumns,
    Replace,
    TextColumn,
    say_rejections,
)
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity
from embedfleet_schema.errors import NothingAccepted

if TYPE_CHECKING:
    from embedfleet import ReadOptions
    from embedfleet_producer.enqueue import Enqueued

Output = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="The file: .parquet, .csv, .jsonl, or .npy with the rows as .jsonl beside it.",
        callback=path_text,
    ),
]
Format = Annotated[
    Literal["parquet", "csv", "jsonl", "npy"] | None,
    typer.Option("--format", help="The format, if the name of the file does not tell."),
]
File = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="A file or folder of rows with vectors; or postgresql://... of LangChain or "
        "LlamaIndex.",
        callback=path_text,
    ),
]
Into = Annotated[
    str,
    typer.Option("--collection", metavar="NAME", help="The collection.", callback=unicode_text),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="The model of the vectors, if the file does not say it. If the collection is new, it "
        "is created with it.",
        callback=optional_unicode,
    ),
]
Table = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Of a database: the table.",
        callback=unicode_text,
    ),
]
Schema = Annotated[
    str, typer.Option(metavar="NAME", help="Of a database: its schema.", callback=unicode_text)
]
Stored = Annotated[
    str | None,
    typer.Option(
        "--stored-collection",
        metavar="NAME",
        help="Of langchain_pg_embedding: which of the collections in it.",
        callback=optional_unicode,
    ),
]
SourceName = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="NAME",
        help="Name of the source of these documents. Default: none.",
        callback=optional_unicode,
    ),
]


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a row has what."""

    text_column: TextColumn = None
    key_column: KeyColumn = None
    metadata_columns: MetadataColumns = None
    delimiter: Delimiter = None
    encoding: Encoding = None
    key_prefix: KeyPrefix = ""
    source: SourceName = None

    def options(self) -> ReadOptions:
        from embedfleet import ReadOptions

        kept = self.metadata_columns
        names = None if kept is None else tuple(word.strip() for word in kept.split(","))
        return ReadOptions(**asdict(self) | {"metadata_columns": names})


@dataclass(frozen=True, slots=True)
class OfDatabase:
    """Which table of another library's database."""

    table: Table = "langchain_pg_embedding"
    schema: Schema = "public"
    stored_collection: Stored = None


def add_to(app: typer.Typer) -> None:
    app.command()(export)
    app.command("import")(ungrouped(import_vectors))


def export(
    context: typer.Context,
    name: Name,
    output: Output,
    form: Format = None,
    json: Json = False,
) -> None:
    """Write all chunks of a collection with their vectors to a file."""
    from embedfleet.progress import activity

    with session(context).fleet() as fleet, activity("exporting") as tell:
        done = fleet.collection(name).export(
            output,
            format=form,
            on_chunks=lambda chunks: tell(f"wrote {quantity(chunks, 'chunk')}"),
        )
    if json:
        print_json(asdict(done))
        return
    files = " and ".join(map(str, done.files))
    what = f"{quantity(done.documents, 'document')}, {quantity(done.chunks, 'chunk')}"
    say(f"{files}: {what}")


def import_vectors(
    context: typer.Context,
    file: File,
    *,
    collection: Into,
    model: Model = None,
    columns: Columns,
    of_database: OfDatabase,
    replace: Replace = False,
    json: Json = False,
) -> None:
    """Store texts with vectors that were made elsewhere. Nothing is embedded again."""
    from embedfleet.progress import enqueue_progress

    options = columns.options()
    with session(context).fleet() as fleet:
        target = fleet.collection(collection, model)
        with enqueue_progress() as show, _stays():
            job = target.import_vectors(
                file,
                model=model,
                options=options,
                replace=replace,
                on_window=show,
                **asdict(of_database),
            )
    done = job.enqueued
    assert done is not None  # noqa: S101 - this process made the job
    if json:
        print_json(asdict(done))
    else:
        _report(done)
    if done.rejected and not done.documents + done.unchanged:
        first = done.rejections[0]
        nothing = NothingAccepted(
            count=done.rejected, key=first.key, reason=one_line(first.reason), name=collection
        )
        if not json:
            raise nothing
        note(f"error: {nothing}")
        raise typer.Exit(nothing.exit_code)
    if done.rejected:
        note(f"See what was rejected: embedfleet failures {collection}")


@contextmanager
def _stays() -> Iterator[None]:
    """Whoever leaves with Ctrl-C is told what becomes of the part that was read."""
    try:
        yield
    except KeyboardInterrupt:
        note("What is stored so far stays. Import again to store the rest")
        raise


def _report(done: Enqueued) -> None:
    parts = [
        quantity(done.documents, "document"),
        f"{done.unchanged:,} unchanged",
        quantity(done.chunks, "chunk"),
        quantity(done.imported, "vector"),
        f"{done.reused:,} reused",
    ]
    if done.rejected:
        parts.append(f"{done.rejected:,} rejected")
    say(f"job {done.job_id}: {', '.join(parts)}")
    say_rejections(done.rejections, done.rejected)

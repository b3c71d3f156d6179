"""What `enqueue` and `plan` are told about files, and what they tell of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfleet.cli.output import note, one_line
from embedfleet.cli.session import Session

if TYPE_CHECKING:
    from embedfleet import Document, ReadOptions, ReadReport, Rejection

SHAPES_SHOWN, NOTES_SHOWN = 10, 10

TextColumn = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Of rows: the column that is embedded.")
]
KeyColumn = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Of rows: the column that identifies a row.")
]
MetadataColumns = Annotated[
    str | None,
    typer.Option(metavar="COLUMN,...", help="Of rows: keep these alone as metadata."),
]
Delimiter = Annotated[
    str | None, typer.Option(metavar="CHARACTER", help="Between the cells of CSV; or tab.")
]
Encoding = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of texts, such as cp1252; UTF-8 by default.")
]
StdinKey = Annotated[
    str | None, typer.Option("--key", metavar="KEY", help="The key of standard input's text.")
]
KeyPrefix = Annotated[str, typer.Option(metavar="PREFIX", help="Put before every key.")]
SourceName = Annotated[
    str | None,
    typer.Option("--source", metavar="NAME", help="Where it comes from; by default each file."),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Also replace documents of other sources.")
]


def columns(words: str | None) -> tuple[str, ...] | None:
    """The columns of a list with commas."""
    if words is None:
        return None
    return tuple(word.strip() for word in words.split(",") if word.strip())


def read(
    here: Session, paths: Sequence[str], options: ReadOptions
) -> tuple[Iterator[Document | Rejection], ReadReport]:
    """The documents of files, folders and standard input, and what will be told of them."""
    from embedfleet import ReadReport, read_paths

    report = ReadReport()
    limit = here.settings().max_document_bytes
    documents = read_paths(map(Path, paths), max_bytes=limit, options=options, report=report)
    if "-" in paths and sys.stdin.isatty():
        note("reading what you type; end with Ctrl-D")
    return documents, report


def note_report(report: ReadReport) -> None:
    """Say what became text, key and metadata, and what was left out."""
    for shape in report.shapes[:SHAPES_SHOWN]:
        note(one_line(shape.line))
    more = sum(shape.files for shape in report.shapes[SHAPES_SHOWN:]) + report.more
    if more:
        note(f"and {more:,} files of other shapes")
    for each in report.notes[:NOTES_SHOWN]:
        note(one_line(each))
    if len(report.notes) > NOTES_SHOWN:
        note(f"and {len(report.notes) - NOTES_SHOWN:,} more notes; --json has them all")


def report_json(report: ReadReport) -> dict[str, Any]:
    """The same for programs."""
    return {"shapes": [asdict(shape) for shape in report.shapes], "notes": report.notes}

"""What `enqueue` and `plan` read and how, and what they say of it."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfleet.cli.output import note, one_line, say
from embedfleet.cli.parameters import optional_unicode, path_text, unicode_text
from embedfleet_schema.amounts import quantity

if TYPE_CHECKING:
    from embedfleet import Rejection
    from embedfleet_producer.readers import ReadReport
    from embedfleet_producer.readers.reading import Reading as FolderReading
    from embedfleet_producer.readers.rejections import Note
    from embedfleet_schema.settings import Settings

EXAMPLES = 3
SHAPES_SHOWN, REMARKS_SHOWN = 10, 10

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH",
        help="Files, folders, s3://, gs:// or az:// paths; - for standard input.",
        callback=lambda paths: [path_text(path) for path in paths],
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN", help="Read only files that match, as in .gitignore: '*.md'. Repeatable."
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN", help="Leave out files that match: drafts/, '*.log'. Repeatable."
    ),
]
FollowLinks = Annotated[
    bool, typer.Option("--follow-links", help="Follow symbolic links that lead out of a folder.")
]


def _word(help_text: str, metavar: str, *names: str) -> Any:  # noqa: ANN401 - as typer says it
    """An option of one word that may be left out."""
    return typer.Option(*names, metavar=metavar, help=help_text, callback=optional_unicode)


TextColumn = Annotated[str | None, _word("Rows: the column with the text to embed.", "COLUMN")]
KeyColumn = Annotated[str | None, _word("Rows: the column with the key.", "COLUMN")]
MetadataColumns = Annotated[
    str | None, _word("Rows: keep only these columns as metadata.", "COLUMN,...")
]
Delimiter = Annotated[
    str | None, _word("CSV: the character between cells; tab for a tab.", "CHARACTER")
]
Encoding = Annotated[
    str | None, _word("Encoding of text files, such as cp1252. Default: UTF-8.", "NAME")
]
StdinKey = Annotated[str | None, _word("The key of the text on standard input.", "KEY", "--key")]
KeyPrefix = Annotated[
    str, typer.Option(metavar="PREFIX", help="Put this before every key.", callback=unicode_text)
]
SourceName = Annotated[
    str | None,
    _word("Name of the source of these documents. Default: each file.", "NAME", "--source"),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Also replace documents that came from other sources.")
]

Mirror = Annotated[
    bool, typer.Option("--mirror", help="Delete documents that the source no longer has.")
]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read of the paths, and how."""

    include: Include = None
    exclude: Exclude = None
    follow_links: FollowLinks = False
    text_column: TextColumn = None
    key_column: KeyColumn = None
    metadata_columns: MetadataColumns = None
    delimiter: Delimiter = None
    encoding: Encoding = None
    key: StdinKey = None
    key_prefix: KeyPrefix = ""
    source: SourceName = None


def read(
    settings: Settings, paths: Sequence[str], reading: Reading, report: ReadReport
) -> FolderReading:
    """The documents of the paths, read as the options say, with the limits of the settings.

    Raises:
        InputMissing, BadPattern, BadReadOption: what `read_paths` raises at the call.
    """
    from embedfleet import ReaderLimits, ReadOptions, read_paths

    options = ReadOptions(
        text_column=reading.text_column,
        key_column=reading.key_column,
        metadata_columns=_names(reading.metadata_columns),
        delimiter=reading.delimiter,
        encoding=reading.encoding,
        key=reading.key,
        key_prefix=reading.key_prefix,
        source=reading.source,
    )
    documents = read_paths(
        paths,
        max_bytes=settings.max_document_bytes,
        include=reading.include or (),
        exclude=reading.exclude or (),
        follow_links=reading.follow_links,
        limits=ReaderLimits.of(settings),
        options=options,
        report=report,
    )
    if "-" in paths and sys.stdin.isatty():
        note("reading what you type; end with Ctrl-D")
    return documents


def _names(words: str | None) -> tuple[str, ...] | None:
    """The columns of a list with commas."""
    if words is None:
        return None
    return tuple(word.strip() for word in words.split(",") if word.strip())


def say_rejections(rejections: Sequence[Rejection | Note], total: int) -> None:
    """The rejections by code, the first few of each."""
    by_code: dict[str, list[Rejection | Note]] = defaultdict(list)
    for rejection in rejections:
        by_code[rejection.code].append(rejection)
    for code, those in by_code.items():
        say(f"{code}: {len(those):,}")
        for each in those[:EXAMPLES]:
            say(f"  {one_line(each.key)}: {one_line(each.reason)}")
        if len(those) > EXAMPLES:
            say(f"  and {len(those) - EXAMPLES:,} more")
    if total > len(rejections):
        say(f"(the first {len(rejections):,} of {total:,})")


def note_shapes(report: ReadReport) -> None:
    """Say what became text, key and metadata of rows; other files have no columns."""
    shapes = [shape for shape in report.shapes if shape.has_rows]
    for shape in shapes[:SHAPES_SHOWN]:
        note(one_line(shape.line))
    more = sum(shape.files for shape in shapes[SHAPES_SHOWN:]) + report.more
    if more:
        note(f"and {more:,} files of other shapes")
    for each in report.remarks[:REMARKS_SHOWN]:
        note(one_line(each))
    if len(report.remarks) > REMARKS_SHOWN:
        note(f"and {len(report.remarks) - REMARKS_SHOWN:,} more remarks. See all with --json")


def say_report(report: ReadReport) -> None:
    """What was passed over, and what beside the texts was not taken."""
    if report.left_out:
        counts = ", ".join(f"{count:,} {why}" for why, count in sorted(report.left_out.items()))
        say(f"left out: {counts}")
    if report.noted:
        say(f"read without {quantity(report.noted, 'part')}:")
        say_rejections(report.notes, report.noted)


def report_json(report: ReadReport) -> dict[str, Any]:
    """The same for programs."""
    return {
        "shapes": [asdict(shape) for shape in report.shapes],
        "remarks": report.remarks,
        "left_out": dict(report.left_out),
        "noted": report.noted,
        "notes": [asdict(each) for each in report.notes],
    }

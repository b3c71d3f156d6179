"""What `enqueue` and `plan` read, and what they say of what they passed over."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfleet.amounts import quantity
from embedfleet.cli.output import note, one_line, say
from embedfleet.cli.parameters import path_text

if TYPE_CHECKING:
    from embedfleet import Document, Rejection
    from embedfleet_producer.readers import ReadReport
    from embedfleet_producer.readers.refusals import Note
    from embedfleet_schema.settings import Settings

EXAMPLES = 3

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH",
        help="Files and folders; - for standard input.",
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
    typer.Option(metavar="PATTERN", help="Leave out what matches: drafts/, '*.log'. Repeatable."),
]
FollowLinks = Annotated[
    bool, typer.Option("--follow-links", help="Read what links in a folder lead to, outside of it.")
]


def read(
    settings: Settings,
    paths: Sequence[str],
    *,
    include: Sequence[str] | None,
    exclude: Sequence[str] | None,
    follow_links: bool,
    report: ReadReport,
) -> Iterator[Document | Rejection]:
    """The documents of the paths, with the limits of the settings."""
    from embedfleet import ReaderLimits, read_paths

    documents = read_paths(
        map(Path, paths),
        max_bytes=settings.max_document_bytes,
        include=include or (),
        exclude=exclude or (),
        follow_links=follow_links,
        limits=ReaderLimits.of(settings),
        report=report,
    )
    if "-" in paths and sys.stdin.isatty():
        note("reading what you type; end with Ctrl-D")
    return documents


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


def say_report(report: ReadReport) -> None:
    """What was passed over, and what beside the texts was not taken."""
    if report.left_out:
        counts = ", ".join(f"{count:,} {why}" for why, count in sorted(report.left_out.items()))
        say(f"left out: {counts}")
    if report.noted:
        say(f"read, but for {quantity(report.noted, 'part')}:")
        say_rejections(report.notes, report.noted)


def report_json(report: ReadReport) -> dict[str, Any]:
    return {
        "left_out": dict(report.left_out),
        "noted": report.noted,
        "notes": [asdict(each) for each in report.notes],
    }

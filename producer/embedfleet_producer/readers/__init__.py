"""Files, folders, objects and standard input as one lazy stream of documents and rejections."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from embedfleet_producer.readers.embedded_rows import EmbeddedRows
from embedfleet_producer.readers.folders import Selection
from embedfleet_producer.readers.formats import READERS, ROW_READERS
from embedfleet_producer.readers.limits import ReaderLimits
from embedfleet_producer.readers.options import ReadOptions
from embedfleet_producer.readers.patterns import Patterns
from embedfleet_producer.readers.reading import Reading
from embedfleet_producer.readers.report import LoggedReport, ReadReport
from embedfleet_producer.readers.roots import StandardInput
from embedfleet_producer.readers.walk import resolve_roots
from embedfleet_schema.errors import BadReadOption, InputMissing
from embedfleet_schema.types import MAX_DOCUMENT_BYTES, Document, Rejection

__all__ = [
    "READERS",
    "ROW_READERS",
    "ReadOptions",
    "ReadReport",
    "ReaderLimits",
    "read_paths",
    "read_vectors",
]

_STDIN_ALONE = "only a document from standard input (-) gets this key"


def read_paths(
    paths: Iterable[str | Path],
    *,
    stdin: BinaryIO | None = None,
    max_bytes: int = MAX_DOCUMENT_BYTES,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    follow_links: bool = False,
    limits: ReaderLimits | None = None,
    options: ReadOptions | None = None,
    report: ReadReport | None = None,
) -> Reading:
    """Read files, folders, objects of a store (s3://, gs://, az://) and standard input ("-"),
    lazily and in memory that stays flat.

    Folders are walked in sorted order. Hidden files and folders are skipped. What cannot be read
    is a `Rejection`, and the others go on; files of a kind that is not known are told together,
    one rejection for each suffix. A link below a folder is not followed: if it leads to what is
    read under its own name, nothing is lost, and any other link is a `Rejection`.

    Keys. One path: a file's key is its name, a folder's files are called by their path below it.
    Several paths: the folder's name goes before ("docs/a/b.md"), so that equal names in two
    folders stay two documents; where two of the paths have the same last part, their keys start
    with the path as it was given. Keys are in Unicode's composed form (NFC), whatever the file
    system has. Rows of JSON, JSON Lines, CSV, TSV and Parquet are called by their own key (see
    `ReadOptions`), else "<key of the file>#<line>". Standard input is called "stdin". Each
    document's source is the absolute path of its file, or the URL of its object.

    Args:
        paths: repeated ones are read once.
        stdin: what "-" reads; this process's standard input if not given. It is not closed.
        max_bytes: the largest file that is read as one document, and the longest line of JSON
            Lines and CSV (in characters). Files of rows may have any size.
        include: patterns as in .gitignore, over paths below the folder; others are passed over.
        exclude: the same of what is passed over.
        follow_links: read what links lead to as well, once each.
        limits: what reading one file may take.
        options: columns, delimiter, encoding, keys and source, where they are not the usual ones.
        report: is told what became text, key and metadata, what was passed over, and what beside a
            text was not taken.

    Raises:
        InputMissing: at the call, before anything is read: a path does not exist, or a folder has
            no files.
        StoreRefused: the same of a store of objects, which cannot be read.
        ExtraMissing: the library of that store is not installed.
        BadPattern: the same of a pattern.
        BadReadOption: a key was named for standard input, which is not read.
        WrongType: one path was given, and not a list of them.
    """
    selection = Selection(Patterns.of(include), Patterns.of(exclude), follow_links)
    roots = resolve_roots(paths, selection)
    options = options or ReadOptions()
    reads_stdin = any(isinstance(root, StandardInput) for root in roots)
    if reads_stdin:
        stdin = stdin or _own_stdin()
    elif options.key is not None:
        raise BadReadOption(option="key", value=options.key, reason=_STDIN_ALONE)
    report = LoggedReport() if report is None else report
    reading = Reading(selection, max_bytes, limits or ReaderLimits(), options, report)
    return reading.of(roots, stdin)


def _own_stdin() -> BinaryIO:
    # A daemon has none, whatever the type says.
    found: BinaryIO | None = getattr(sys.stdin, "buffer", None)
    if found is None:
        raise InputMissing(path="-", reason="standard input is closed")
    return found


def read_vectors(
    path: Path,
    *,
    max_bytes: int = MAX_DOCUMENT_BYTES,
    limits: ReaderLimits | None = None,
    options: ReadOptions | None = None,
    report: ReadReport | None = None,
) -> Iterator[Document | Rejection]:
    """A file of rows with vectors, or a folder of such files: an `EmbeddedRow` for each, lazily.

    The same readers, limits and rejections as for `read_paths`.

    Raises:
        InputMissing: at the call: the path does not exist, or the folder has no files.
    """
    selection = Selection()
    roots = resolve_roots([path], selection)
    report = LoggedReport() if report is None else report
    limits, options = limits or ReaderLimits(), options or ReadOptions()
    reading = Reading(selection, max_bytes, limits, options, report, EmbeddedRows)
    return reading.of(roots, None)

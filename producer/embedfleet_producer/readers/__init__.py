"""Files, folders and standard input as one lazy stream of documents and rejections."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Self

from embedfleet_producer.readers.confined import ConfinedReader
from embedfleet_producer.readers.embedded_rows import EmbeddedRows
from embedfleet_producer.readers.folders import Selection
from embedfleet_producer.readers.formats import READERS, ROW_READERS, Format, guarded, read_open
from embedfleet_producer.readers.limits import ReaderLimits
from embedfleet_producer.readers.opening import open_regular
from embedfleet_producer.readers.options import ReadOptions
from embedfleet_producer.readers.patterns import Patterns
from embedfleet_producer.readers.rejections import FileRejected, Note, Verdict, printable
from embedfleet_producer.readers.report import LoggedReport, ReadReport
from embedfleet_producer.readers.rows import Rows
from embedfleet_producer.readers.standard_input import read_stdin
from embedfleet_producer.readers.unknown import UnknownFiles
from embedfleet_producer.readers.unpacking import on_disk, unpacked
from embedfleet_producer.readers.walk import STDIN, Root, Source, resolve_roots
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
) -> Iterator[Document | Rejection]:
    """Read files, folders and standard input ("-"), lazily and in memory that stays flat.

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
    document's source is the absolute path of its file.

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
        BadPattern: the same of a pattern.
        BadReadOption: a key was named for standard input, which is not read.
        WrongType: one path was given, and not a list of them.
    """
    selection = Selection(Patterns.of(include), Patterns.of(exclude), follow_links)
    roots = resolve_roots(paths, selection)
    options = options or ReadOptions()
    reads_stdin = any(root.path == STDIN for root in roots)
    if reads_stdin:
        stdin = stdin or _own_stdin()
    elif options.key is not None:
        raise BadReadOption(option="key", value=options.key, reason=_STDIN_ALONE)
    report = LoggedReport() if report is None else report
    reading = _Reading(selection, max_bytes, limits or ReaderLimits(), options, report)
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
    reading = _Reading(selection, max_bytes, limits, options, report, EmbeddedRows)
    return reading.of(roots, None)


class _Reading(Iterator[Document | Rejection]):
    """One call of `read_paths`. Once it is asked, it tells which sources it has read to the end."""

    def __init__(
        self,
        selection: Selection,
        max_bytes: int,
        limits: ReaderLimits,
        options: ReadOptions,
        report: ReadReport,
        rows: type[Rows] = Rows,
    ) -> None:
        self._selection = selection
        self._max_bytes = max_bytes
        self._limits = limits
        self._options = options
        self._report = report
        self._rows = rows
        self._ended: list[str] | None = None

    def of(self, roots: list[Root], stdin: BinaryIO | None) -> Self:
        self._documents = self._all(roots, stdin)
        return self

    def __next__(self) -> Document | Rejection:
        return next(self._documents)

    def close(self) -> None:
        """Read no more."""
        self._documents.close()

    def take_ended(self) -> list[str]:
        """The sources that were read to their end since this was asked last, or first."""
        ended, self._ended = self._ended or [], []
        return ended

    def _end(self, origin: str) -> None:
        if self._ended is not None:
            self._ended.append(origin)

    def _all(self, roots: list[Root], stdin: BinaryIO | None) -> Generator[Document | Rejection]:
        with ConfinedReader(self._limits, self._max_bytes) as confined:
            for verdict in self._verdicts(roots, stdin, confined):
                if isinstance(verdict, Note):
                    self._report.note(verdict)
                elif isinstance(verdict, Rejection):
                    # It is kept under the key that the document would have.
                    yield replace(verdict, key=self._options.key_prefix + verdict.key)
                else:
                    yield verdict

    def _verdicts(
        self, roots: list[Root], stdin: BinaryIO | None, confined: ConfinedReader
    ) -> Iterator[Verdict]:
        for root in roots:
            if stdin is not None and root.path == STDIN:
                rows = self._rows(self._options.key or root.name, self._options, root.name)
                yield from self._told(read_stdin(stdin, self._max_bytes, rows), rows)
                continue
            yield from self._below(root, confined)

    def _below(self, root: Root, confined: ConfinedReader) -> Iterator[Verdict]:
        folder = printable(os.path.abspath(root.path))  # noqa: PTH100
        is_whole = root.is_folder
        unknown = UnknownFiles()
        for source in root.sources(self._selection, self._report.left_out):
            if isinstance(source, Rejection):
                is_whole = is_whole and source.code != "UNREADABLE"
                yield replace(source, source=folder)
                continue
            rows = self._rows(source.key, self._options, source.origin)
            verdicts = self._told(self._file(source, rows, confined), rows, source.origin)
            yield from unknown.others(verdicts) if root.is_folder else verdicts
        for verdict in unknown.told(root.prefix):
            yield replace(verdict, source=folder)
        if is_whole:
            self._end(folder)

    def _told(
        self, verdicts: Iterator[Verdict], rows: Rows, origin: str | None = None
    ) -> Iterator[Verdict]:
        """The verdicts of one file, which goes into the report.

        It is read to its end unless there is a verdict on all of it, other than that it is empty.
        Standard input has no `origin`: it never comes again.
        """
        is_whole = origin is not None
        for verdict in guarded(rows.name, verdicts):
            if isinstance(verdict, Rejection):
                is_whole = is_whole and (verdict.key != rows.name or verdict.code == "EMPTY")
                yield replace(verdict, source=origin)
            elif isinstance(verdict, Document) and self._options.source is not None:
                yield replace(verdict, file=origin)
            else:
                yield verdict
        self._report.add(rows.shape())
        if is_whole and origin is not None:
            self._end(origin)

    def _file(self, source: Source, rows: Rows, confined: ConfinedReader) -> Iterator[Verdict]:
        found = Format.of(source.name)
        if not found.is_known:
            raise FileRejected("UNKNOWN_TYPE", f"{found} files are not read")
        verdicts = self._counted(self._opened(source, found, rows, confined))
        if source.former_key is None:
            yield from verdicts
            return
        prefix = self._options.key_prefix
        key, former_key = prefix + source.key, prefix + source.former_key
        yield from (_renamed(verdict, key, former_key) for verdict in verdicts)

    def _opened(
        self, source: Source, found: Format, rows: Rows, confined: ConfinedReader
    ) -> Iterator[Verdict]:
        with open_regular(source.base, source.parts) as stream, ExitStack() as opened:
            content = stream
            if found.is_packed:
                size = os.fstat(stream.fileno()).st_size
                limit = self._limits.unpacked_bytes(size, self._max_bytes)
                content = opened.enter_context(unpacked(stream, limit))
            if not found.is_confined:
                yield from read_open(found.suffix, content, self._max_bytes, rows)
                return
            if found.is_packed:
                content = opened.enter_context(on_disk(content))
            yield from confined.read(found.suffix, content, rows)

    def _counted(self, verdicts: Iterator[Verdict]) -> Iterator[Verdict]:
        yield from itertools.islice(verdicts, self._limits.max_rows)
        if next(verdicts, None) is not None:
            raise FileRejected(
                "TOO_MANY_ROWS",
                f"it has more than {self._limits.max_rows:,} rows; the first of them were taken, "
                "and EMBEDFLEET_MAX_ROWS raises the limit",
            )


def _renamed(verdict: Verdict, key: str, former_key: str) -> Verdict:
    """A document of a file with the key that it may have in a collection from before."""
    if not isinstance(verdict, Document) or not verdict.key.startswith(key):
        return verdict
    return replace(verdict, former_key=former_key + verdict.key.removeprefix(key))

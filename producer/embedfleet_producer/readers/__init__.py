"""Files, folders and standard input as one lazy stream of documents and rejections."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from embedfleet_producer.readers.confined import ConfinedReader
from embedfleet_producer.readers.folders import Selection
from embedfleet_producer.readers.formats import READERS, Format, Reader, guarded
from embedfleet_producer.readers.limits import ReaderLimits
from embedfleet_producer.readers.opening import open_regular
from embedfleet_producer.readers.patterns import Patterns
from embedfleet_producer.readers.refusals import Note, Refused, Verdict
from embedfleet_producer.readers.report import LoggedReport, ReadReport
from embedfleet_producer.readers.standard_input import read_stdin
from embedfleet_producer.readers.unknown import UnknownFiles
from embedfleet_producer.readers.unpacking import on_disk, unpacked
from embedfleet_producer.readers.walk import STDIN, Root, Source, plan_roots
from embedfleet_schema.errors import InputMissing, WrongType
from embedfleet_schema.types import MAX_DOCUMENT_BYTES, Document, Rejection

__all__ = ["READERS", "ReadReport", "Reader", "ReaderLimits", "read_paths"]


def read_paths(
    paths: Iterable[str | Path],
    *,
    stdin: BinaryIO | None = None,
    max_bytes: int = MAX_DOCUMENT_BYTES,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    follow_links: bool = False,
    limits: ReaderLimits | None = None,
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
    system has. Rows of JSON, JSON Lines, CSV, TSV and Parquet are called by their own `key` or
    `id`, else "<key of the file>#<line>". Standard input is called "stdin".

    Args:
        paths: repeated ones are read once.
        stdin: what "-" reads; this process's standard input if not given. It is not closed.
        max_bytes: the largest file that is read as one document, and the longest line of JSON
            Lines and CSV (in characters). Files of rows may have any size.
        include: patterns as in .gitignore, over paths below the folder; others are passed over.
        exclude: the same of what is passed over.
        follow_links: read what links lead to as well, once each.
        limits: what reading one file may take.
        report: is told what was passed over, and what beside a text was not taken.

    Raises:
        InputMissing: at the call, before anything is read: a path does not exist, or a folder has
            no files.
        BadPattern: the same of a pattern.
        WrongType: one path was given, and not a list of them.
    """
    if isinstance(paths, str | bytes | Path):
        wanted, given = 'a list of paths such as ["docs"]', type(paths).__name__
        raise WrongType(call="read_paths", name="paths", wanted=wanted, given=given)
    selection = Selection(Patterns.of(include), Patterns.of(exclude), follow_links)
    roots = plan_roots(paths, selection)
    if stdin is None and any(root.path == STDIN for root in roots):
        stdin = _own_stdin()
    reading = _Reading(selection, max_bytes, limits or ReaderLimits(), report or LoggedReport())
    return reading.documents(roots, stdin)


def _own_stdin() -> BinaryIO:
    # A daemon has none, whatever the type says.
    found: BinaryIO | None = getattr(sys.stdin, "buffer", None)
    if found is None:
        raise InputMissing(path="-", reason="there is no standard input")
    return found


class _Reading:
    """One call of `read_paths`."""

    def __init__(
        self, selection: Selection, max_bytes: int, limits: ReaderLimits, report: ReadReport
    ) -> None:
        self._selection = selection
        self._max_bytes = max_bytes
        self._limits = limits
        self._report = report

    def documents(
        self, roots: list[Root], stdin: BinaryIO | None
    ) -> Iterator[Document | Rejection]:
        with ConfinedReader(self._limits, self._max_bytes) as confined:
            for verdict in self._verdicts(roots, stdin, confined):
                if isinstance(verdict, Note):
                    self._report.note(verdict)
                else:
                    yield verdict

    def _verdicts(
        self, roots: list[Root], stdin: BinaryIO | None, confined: ConfinedReader
    ) -> Iterator[Verdict]:
        for root in roots:
            if stdin is not None and root.path == STDIN:
                yield from guarded(root.name, read_stdin(root.name, stdin, self._max_bytes))
                continue
            unknown = UnknownFiles()
            for source in root.sources(self._selection, self._report.left_out):
                if isinstance(source, Rejection):
                    yield source
                    continue
                verdicts = guarded(source.key, self._file(source, confined))
                yield from unknown.others(verdicts) if root.is_folder else verdicts
            yield from unknown.told(root.prefix)

    def _file(self, source: Source, confined: ConfinedReader) -> Iterator[Verdict]:
        found = Format.of(source.name)
        if not found.is_known:
            raise Refused("UNKNOWN_TYPE", f"{found} files are not read")
        verdicts = self._counted(self._opened(source, found, confined))
        if source.former_key is None:
            yield from verdicts
        else:
            yield from (_renamed(verdict, source.key, source.former_key) for verdict in verdicts)

    def _opened(self, source: Source, found: Format, confined: ConfinedReader) -> Iterator[Verdict]:
        with open_regular(source.base, source.parts) as stream, ExitStack() as opened:
            content = stream
            if found.is_packed:
                size = os.fstat(stream.fileno()).st_size
                limit = self._limits.unpacked_bytes(size, self._max_bytes)
                content = opened.enter_context(unpacked(stream, limit))
            if not found.is_confined:
                yield from READERS[found.suffix](source.key, content, self._max_bytes)
                return
            if found.is_packed:
                content = opened.enter_context(on_disk(content))
            yield from confined.read(found.suffix, source.key, content)

    def _counted(self, verdicts: Iterator[Verdict]) -> Iterator[Verdict]:
        yield from itertools.islice(verdicts, self._limits.max_rows)
        if next(verdicts, None) is not None:
            raise Refused(
                "TOO_MANY_ROWS",
                f"it has more than {self._limits.max_rows:,} rows; the first of them were taken, "
                "and EMBEDFLEET_MAX_ROWS raises the limit",
            )


def _renamed(verdict: Verdict, key: str, former_key: str) -> Verdict:
    """A document of a file with the key that it may have in a collection from before."""
    if not isinstance(verdict, Document) or not verdict.key.startswith(key):
        return verdict
    return replace(verdict, former_key=former_key + verdict.key.removeprefix(key))

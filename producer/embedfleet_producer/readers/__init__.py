"""Files, folders and standard input as one lazy stream of documents and rejections."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from embedfleet_producer.readers.encodings import recoded
from embedfleet_producer.readers.options import ReadOptions
from embedfleet_producer.readers.parquet import read_parquet
from embedfleet_producer.readers.pdf import read_pdf
from embedfleet_producer.readers.refusals import Refused, Verdict, os_reason, printable
from embedfleet_producer.readers.report import ReadReport, Tally
from embedfleet_producer.readers.rows import Rows
from embedfleet_producer.readers.standard_input import read_stdin
from embedfleet_producer.readers.tables import read_csv, read_jsonl, read_tsv
from embedfleet_producer.readers.text import (
    BAD_ENCODING,
    read_markdown,
    read_plain,
    read_restructured,
)
from embedfleet_producer.readers.walk import (
    STDIN,
    Root,
    Source,
    check_regular,
    open_regular,
    plan_roots,
)
from embedfleet_producer.readers.web_pages import read_html
from embedfleet_schema.errors import BadReadOption, ExtraMissing, InputMissing
from embedfleet_schema.types import MAX_DOCUMENT_BYTES, Document, Rejection

__all__ = ["READERS", "ReadOptions", "ReadReport", "Reader", "read_paths"]

Reader = Callable[[str, BufferedReader, int], Iterator[Verdict]]
RowReader = Callable[[BufferedReader, int, Rows], Iterator[Verdict]]

READERS: dict[str, Reader] = {
    ".txt": read_plain,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".rst": read_restructured,
    ".html": read_html,
    ".htm": read_html,
    ".pdf": read_pdf,
}
ROW_READERS: dict[str, RowReader] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
}
# An encoding that is named is not that of files which say or need none.
_WITHOUT_ENCODING = {".pdf", ".parquet"}


def read_paths(
    paths: Iterable[str | Path],
    *,
    stdin: BinaryIO | None = None,
    max_bytes: int = MAX_DOCUMENT_BYTES,
    options: ReadOptions | None = None,
    report: ReadReport | None = None,
) -> Iterator[Document | Rejection]:
    """Read files, folders and standard input ("-"), lazily and in memory that stays flat.

    Folders are walked in sorted order. Hidden files and folders are skipped, links to folders are
    not followed. What cannot be read is a `Rejection`, and the others go on.

    Keys. One path: a file's key is its name, a folder's files are called by their path below it.
    Several paths: the folder's name goes before ("docs/a/b.md"), so that equal names in two
    folders stay two documents; where two of the paths have the same last part, their keys start
    with the path as it was given. Rows of JSON Lines, CSV and Parquet are called by their own key
    (see `ReadOptions`), else "<key of the file>#<line>". Standard input is called "stdin". Each
    document's source is the absolute path of its file.

    Args:
        paths: repeated ones are read once.
        stdin: what "-" reads; this process's standard input if not given. It is not closed.
        max_bytes: the largest file that is read as one document, and the longest line of JSON
            Lines and CSV (in characters). Files of rows may have any size.
        options: columns, delimiter, encoding, keys and source, where they are not the usual ones.
        report: is told what became text, key and metadata, and what was left out.

    Raises:
        InputMissing: at the call, before anything is read: a path does not exist, or a folder has
            no files.
    """
    roots = plan_roots(paths)
    reads_stdin = any(root.path == STDIN for root in roots)
    if options is not None and options.key is not None and not reads_stdin:
        reason = "only what comes from standard input (-) is called by it"
        raise BadReadOption(option="key", value=options.key, reason=reason)
    if stdin is None and reads_stdin:
        stdin = _own_stdin()
    return _Reading(options or ReadOptions(), report or ReadReport(), max_bytes).verdicts(
        roots, stdin
    )


def _own_stdin() -> BinaryIO:
    # A daemon has none, whatever the type says.
    found: BinaryIO | None = getattr(sys.stdin, "buffer", None)
    if found is None:
        raise InputMissing(path="-", reason="there is no standard input")
    return found


@dataclass(frozen=True, slots=True)
class _Reading:
    """One call of `read_paths`."""

    options: ReadOptions
    report: ReadReport
    max_bytes: int

    def verdicts(self, roots: list[Root], stdin: BinaryIO | None) -> Iterator[Verdict]:
        for root in roots:
            if stdin is not None and root.path == STDIN:
                yield from self._stdin(root, stdin)
                continue
            for source in root.sources():
                if isinstance(source, Rejection):
                    yield self._prefixed(source)
                else:
                    yield from self._file(source)

    def _stdin(self, root: Root, stdin: BinaryIO) -> Iterator[Verdict]:
        rows = Rows(self.options.key or root.name, self.options, root.name)
        yield from self._told(read_stdin(stdin, self.max_bytes, rows), rows, root.name)

    def _file(self, source: Source) -> Iterator[Verdict]:
        # Not resolved: a link is the name by which the file was given.
        origin = printable(os.path.abspath(source.path))  # noqa: PTH100
        rows = Rows(source.key, self.options, origin)
        yield from self._told(self._read(source, rows), rows, origin)

    def _told(self, verdicts: Iterator[Verdict], rows: Rows, origin: str) -> Iterator[Verdict]:
        """The verdicts of one file, which goes into the report."""
        whole = Tally()
        for verdict in _guarded(rows.name, verdicts):
            if isinstance(verdict, Rejection):
                yield self._prefixed(verdict)
            elif verdict.row is not None:
                yield verdict
            else:
                whole.document("all of it", "its name", verdict.metadata)
                key = self.options.key_prefix + verdict.key
                yield replace(verdict, key=key, source=self.options.source or origin)
        self.report.add(rows.shape())
        self.report.add(whole.shape(rows.name))

    def _prefixed(self, rejection: Rejection) -> Rejection:
        """It is kept under the key that the document would have."""
        return replace(rejection, key=self.options.key_prefix + rejection.key)

    def _read(self, source: Source, rows: Rows) -> Iterator[Verdict]:
        extension = source.extension
        if extension not in READERS and extension not in ROW_READERS:
            check_regular(source.path.stat())
            kind = f"{extension} files" if extension else "files without an extension"
            known = " ".join([*READERS, *ROW_READERS])
            raise Refused("UNKNOWN_TYPE", f"{kind} are not read; these are: {known}")
        with open_regular(source.path) as stream:
            text = stream
            if self.options.encoding is not None and extension not in _WITHOUT_ENCODING:
                text = recoded(stream, self.options.encoding)
            if extension in ROW_READERS:
                yield from ROW_READERS[extension](text, self.max_bytes, rows)
            else:
                yield from READERS[extension](source.key, text, self.max_bytes)


def _guarded(key: str, verdicts: Iterator[Verdict]) -> Iterator[Verdict]:
    """What a reader yields, and what ended it as one last rejection."""
    try:
        yield from verdicts
    except Refused as refused:
        yield Rejection(key, refused.code, refused.reason)
    except UnicodeDecodeError:
        yield Rejection(key, "BAD_ENCODING", BAD_ENCODING)
    except ExtraMissing as missing:
        yield Rejection(key, "READER_MISSING", str(missing))
    except OSError as error:
        yield Rejection(key, "UNREADABLE", os_reason(error))

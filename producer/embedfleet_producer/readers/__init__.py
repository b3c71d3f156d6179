"""Files, folders and standard input as one lazy stream of documents and rejections."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from embedfleet_producer.readers.parquet import read_parquet
from embedfleet_producer.readers.pdf import read_pdf
from embedfleet_producer.readers.refusals import Refused, Verdict, os_reason
from embedfleet_producer.readers.standard_input import read_stdin
from embedfleet_producer.readers.tables import read_csv, read_jsonl
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
from embedfleet_schema.errors import ExtraMissing, InputMissing, WrongType
from embedfleet_schema.types import MAX_DOCUMENT_BYTES, Document, Rejection

__all__ = ["READERS", "Reader", "read_paths"]

Reader = Callable[[str, BufferedReader, int], Iterator[Verdict]]

READERS: dict[str, Reader] = {
    ".txt": read_plain,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".rst": read_restructured,
    ".html": read_html,
    ".htm": read_html,
    ".pdf": read_pdf,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".parquet": read_parquet,
}


def read_paths(
    paths: Iterable[str | Path],
    *,
    stdin: BinaryIO | None = None,
    max_bytes: int = MAX_DOCUMENT_BYTES,
) -> Iterator[Document | Rejection]:
    """Read files, folders and standard input ("-"), lazily and in memory that stays flat.

    Folders are walked in sorted order. Hidden files and folders are skipped, links to folders are
    not followed. What cannot be read is a `Rejection`, and the others go on.

    Keys. One path: a file's key is its name, a folder's files are called by their path below it.
    Several paths: the folder's name goes before ("docs/a/b.md"), so that equal names in two
    folders stay two documents; where two of the paths have the same last part, their keys start
    with the path as it was given. Rows of JSON Lines, CSV and Parquet are called by their own
    `key` or `id`, else "<key of the file>#<line>". Standard input is called "stdin".

    Args:
        paths: repeated ones are read once.
        stdin: what "-" reads; this process's standard input if not given. It is not closed.
        max_bytes: the largest file that is read as one document, and the longest line of JSON
            Lines and CSV (in characters). Files of rows may have any size.

    Raises:
        InputMissing: at the call, before anything is read: a path does not exist, or a folder has
            no files.
        WrongType: one path was given, and not a list of them.
    """
    if isinstance(paths, str | bytes | Path):
        wanted, given = 'a list of paths such as ["docs"]', type(paths).__name__
        raise WrongType(call="read_paths", name="paths", wanted=wanted, given=given)
    roots = plan_roots(paths)
    if stdin is None and any(root.path == STDIN for root in roots):
        stdin = _own_stdin()
    return _verdicts(roots, stdin, max_bytes)


def _own_stdin() -> BinaryIO:
    # A daemon has none, whatever the type says.
    found: BinaryIO | None = getattr(sys.stdin, "buffer", None)
    if found is None:
        raise InputMissing(path="-", reason="there is no standard input")
    return found


def _verdicts(roots: list[Root], stdin: BinaryIO | None, max_bytes: int) -> Iterator[Verdict]:
    for root in roots:
        if stdin is not None and root.path == STDIN:
            yield from _guarded(root.name, read_stdin(root.name, stdin, max_bytes))
            continue
        for source in root.sources():
            if isinstance(source, Rejection):
                yield source
            else:
                yield from _guarded(source.key, _read_file(source, max_bytes))


def _read_file(source: Source, max_bytes: int) -> Iterator[Verdict]:
    reader = READERS.get(source.extension)
    if reader is None:
        check_regular(source.path.stat())
        kind = f"{source.extension} files" if source.extension else "files without an extension"
        raise Refused("UNKNOWN_TYPE", f"{kind} are not read; these are: {' '.join(READERS)}")
    with open_regular(source.path) as stream:
        yield from reader(source.key, stream, max_bytes)


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

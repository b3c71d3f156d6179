"""Which reader a file gets, by the end of its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import PurePosixPath

from embedfleet_producer.readers.encodings import recoded
from embedfleet_producer.readers.json_files import read_json
from embedfleet_producer.readers.notebooks import read_notebook
from embedfleet_producer.readers.parquet import read_parquet
from embedfleet_producer.readers.pdf import read_pdf
from embedfleet_producer.readers.rejections import FileRejected, Verdict, os_reason
from embedfleet_producer.readers.rows import Rows
from embedfleet_producer.readers.source_code import SOURCE_SUFFIXES, SourceReader, read_unnamed
from embedfleet_producer.readers.tables import read_csv, read_jsonl, read_tsv
from embedfleet_producer.readers.text import (
    BAD_ENCODING,
    read_markdown,
    read_plain,
    read_restructured,
)
from embedfleet_producer.readers.web_pages import read_html
from embedfleet_producer.readers.word import read_docx
from embedfleet_schema.errors import ExtraMissing
from embedfleet_schema.types import Document, Rejection

Reader = Callable[[str, BufferedReader, int], Iterator[Verdict]]
RowReader = Callable[[BufferedReader, int, Rows], Iterator[Verdict]]

_SOURCES: dict[str, Reader] = {
    suffix: SourceReader(suffix.removeprefix(".")) for suffix in SOURCE_SUFFIXES
}
READERS: dict[str, Reader] = _SOURCES | {
    ".txt": read_plain,
    ".text": read_plain,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".mdx": read_markdown,
    ".qmd": read_markdown,
    ".rmd": read_markdown,
    ".rst": read_restructured,
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_html,
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".ipynb": read_notebook,
    "": read_unnamed,
}
ROW_READERS: dict[str, RowReader] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
}
# An encoding that is named is not that of files which say or need none.
_WITHOUT_ENCODING = {".pdf", ".docx", ".ipynb", ".parquet"}

# Their parsers may take any time and memory: they run in a process with limits. With each, what
# it loads, which is not to count.
CONFINED: dict[str, tuple[str, ...]] = {
    ".html": ("bs4",),
    ".htm": ("bs4",),
    ".xhtml": ("bs4",),
    ".pdf": ("pypdf",),
    ".docx": ("zipfile", "xml.parsers.expat"),
    ".ipynb": ("json",),
    ".parquet": ("pyarrow.parquet", "pyarrow.types", "pyarrow.compute", "numpy"),
}
PACKED = ".gz"


@dataclass(frozen=True, slots=True)
class Format:
    """The reader of a file, by its suffix; `suffix` is that before .gz where `is_packed`."""

    suffix: str
    is_packed: bool

    @classmethod
    def of(cls, name: str) -> Format:
        path = PurePosixPath(name.lower())
        is_packed = path.suffix == PACKED
        return cls((path.with_suffix("") if is_packed else path).suffix, is_packed)

    @property
    def is_known(self) -> bool:
        return self.suffix in READERS or self.suffix in ROW_READERS

    @property
    def is_confined(self) -> bool:
        return self.suffix in CONFINED

    def __str__(self) -> str:
        return self.suffix + PACKED * self.is_packed


def read_open(suffix: str, stream: BufferedReader, max_bytes: int, rows: Rows) -> Iterator[Verdict]:
    """What the reader of a suffix says of an open file, in this process."""
    if rows.options.encoding is not None and suffix not in _WITHOUT_ENCODING:
        stream = recoded(stream, rows.options.encoding)
    if suffix in ROW_READERS:
        yield from ROW_READERS[suffix](stream, max_bytes, rows)
        return
    for verdict in READERS[suffix](rows.name, stream, max_bytes):
        yield rows.whole(verdict) if isinstance(verdict, Document) else verdict


def guarded(key: str, verdicts: Iterator[Verdict]) -> Iterator[Verdict]:
    """What a reader yields, and what ended it as one last rejection."""
    try:
        yield from verdicts
    except FileRejected as refused:
        yield Rejection(key, refused.code, refused.reason)
    except UnicodeDecodeError:
        yield Rejection(key, "BAD_ENCODING", BAD_ENCODING)
    except ExtraMissing as missing:
        yield Rejection(key, "READER_MISSING", str(missing))
    except OSError as error:
        yield Rejection(key, "UNREADABLE", os_reason(error))

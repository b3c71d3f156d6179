"""PDF files: the text of their pages. Scans have none, and are said to be empty."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BufferedReader
from typing import TYPE_CHECKING

from embedfleet_producer.readers.file_metadata import dropped, titled
from embedfleet_producer.readers.rejections import FileRejected, Note, Verdict, short_reason
from embedfleet_producer.readers.text import read_whole, text_document
from embedfleet_schema.errors import ExtraMissing
from embedfleet_schema.types import Document, Mark

if TYPE_CHECKING:
    import pypdf

_GAP = "\n\n"


def read_pdf(key: str, stream: BufferedReader, max_bytes: int) -> Iterator[Verdict]:
    """One document per file, pages separated by an empty line; chunks carry their page's number."""
    data = read_whole(stream, max_bytes)
    if not data:
        raise FileRejected("EMPTY", "it is empty")
    try:
        yield from _verdicts(key, _opened(data), max_bytes)
    except (FileRejected, ExtraMissing, MemoryError):
        raise
    except Exception as error:  # on a damaged file pypdf raises almost anything
        raise FileRejected("UNREADABLE", f"not a readable PDF: {short_reason(error)}") from error


def _opened(data: bytes) -> pypdf.PdfReader:
    try:
        import pypdf
    except ImportError as error:
        raise ExtraMissing(feature="Reading .pdf files", extra="readers") from error
    # pypdf logs each flaw that it works around; without a handler Python prints them to stderr.
    logging.getLogger("pypdf").addHandler(logging.NullHandler())
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        # Most encrypted files have an owner's password only: whoever opens them needs none.
        if reader.is_encrypted and not reader.decrypt(""):
            raise FileRejected("UNREADABLE", "it is encrypted: save a copy without a password")
    except pypdf.errors.DependencyError as error:
        raise ExtraMissing(feature="Reading encrypted .pdf files", extra="readers") from error
    return reader


def _verdicts(key: str, reader: pypdf.PdfReader, max_bytes: int) -> Iterator[Verdict]:
    pages: dict[int, str] = {}
    bad: list[str] = []
    room = max_bytes
    for number, page in enumerate(reader.pages, 1):
        try:
            text = _storable(page.extract_text())
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - one page; the others may be good
            bad.append(f"page {number}: {short_reason(error)}")
            continue
        room -= len(text)
        if room < 0:
            raise FileRejected("TOO_LARGE", f"it has more than {max_bytes:,} characters of text")
        if text:
            pages[number] = text
    if not pages:
        raise _without_text(bad)
    if bad:
        yield Note(key, "PAGE_UNREADABLE", f"{len(bad):,} in all, the first {bad[0]}")
    document = text_document(key, _GAP.join(pages.values()), "pdf")
    document = replace(document, marks=_page_marks(pages))
    yield from _with_title(reader, document)


def _without_text(bad: Sequence[str]) -> FileRejected:
    if bad:
        return FileRejected("UNREADABLE", f"none of its pages can be read; {bad[0]}")
    return FileRejected("EMPTY", "no page of it has text (a scan needs text recognition first)")


def _page_marks(pages: dict[int, str]) -> tuple[Mark, ...]:
    marks = []
    start = 0
    for number, text in pages.items():
        marks.append(Mark(start, {"page": number}))
        start += len(text) + len(_GAP)
    return tuple(marks)


def _with_title(reader: pypdf.PdfReader, document: Document) -> Iterator[Verdict]:
    try:
        found = reader.metadata.get("/Title") if reader.metadata else None
        title = found.get_object() if found is not None else None
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - the text is there already
        yield dropped(document.key, "title", short_reason(error))
        title = None
    yield from titled(document, _storable(title) if isinstance(title, str) else title)


def _storable(text: str) -> str:
    """What fonts with broken tables yield, as valid Unicode: pairs joined, the rest replaced."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", "").strip()

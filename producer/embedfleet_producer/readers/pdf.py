"""PDF files: the text of their pages. Scans have none, and are said to be empty."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from io import BufferedReader

from embedfleet_producer.readers.refusals import Refused, Verdict, short_reason
from embedfleet_producer.readers.text import read_whole, text_document
from embedfleet_schema.errors import ExtraMissing


def read_pdf(key: str, stream: BufferedReader, max_bytes: int) -> Iterator[Verdict]:
    """One document per file, pages separated by an empty line; its title goes to the metadata."""
    data = read_whole(stream, max_bytes)
    if not data:
        raise Refused("EMPTY", "there is nothing in it")
    try:
        text, title = _text_and_title(data, max_bytes)
    except (Refused, ExtraMissing):
        raise
    except Exception as error:  # on a damaged file pypdf raises almost anything
        raise Refused("UNREADABLE", f"not a readable PDF: {short_reason(error)}") from error
    if not text.strip():
        raise Refused("EMPTY", "no page of it has text (a scan needs text recognition first)")
    yield text_document(key, text, "pdf", title=title)


def _text_and_title(data: bytes, max_bytes: int) -> tuple[str, str]:
    try:
        import pypdf
    except ImportError as error:
        raise ExtraMissing(feature="Reading .pdf files", extra="readers") from error
    # pypdf logs each flaw that it works around; without a handler Python prints them to stderr.
    logging.getLogger("pypdf").addHandler(logging.NullHandler())
    reader = pypdf.PdfReader(io.BytesIO(data))
    if reader.is_encrypted:
        raise Refused("UNREADABLE", "it is encrypted: save a copy without a password")
    pages: list[str] = []
    room = max_bytes
    for page in reader.pages:
        text = _storable(page.extract_text())
        room -= len(text)
        if room < 0:
            raise Refused("TOO_LARGE", f"it has more than {max_bytes:,} characters of text")
        pages.append(text)
    title = reader.metadata.title if reader.metadata else None
    return "\n\n".join(filter(None, pages)), " ".join(_storable(title or "").split())


def _storable(text: str) -> str:
    """What fonts with broken tables yield, as valid Unicode: pairs joined, the rest replaced."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", "").strip()

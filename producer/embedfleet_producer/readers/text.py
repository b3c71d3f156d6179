"""Bytes to text, without guessing: UTF-8, or UTF-16 that says so with a byte order mark."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterator
from io import BufferedReader
from typing import Self

from embedfleet_producer.readers.refusals import Refused, Verdict
from embedfleet_schema.types import ChunkMode, Document

SNIFFED_BYTES = 8_192
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
BAD_ENCODING = (
    "the text is neither UTF-8 nor UTF-16 with a byte order mark: convert it to UTF-8, or name its "
    "encoding, as in --encoding cp1252"
)


def text_encoding(stream: BufferedReader) -> str:
    """The codec of a stream of text, from its first bytes, which stay unread.

    Raises:
        Refused: EMPTY, NOT_TEXT (a NUL byte where text has none) or BAD_ENCODING (UTF-32).
    """
    head = stream.peek(SNIFFED_BYTES)[:SNIFFED_BYTES]
    if not head:
        raise Refused("EMPTY", "there is nothing in it")
    if head.startswith(_UTF_32):
        raise Refused("BAD_ENCODING", BAD_ENCODING)
    if head.startswith(_UTF_16):
        return "utf-16"
    if b"\0" in head:
        raise Refused("NOT_TEXT", "it holds binary data")
    return "utf-8-sig"


def read_whole(stream: BufferedReader, max_bytes: int) -> bytes:
    """All bytes of an open file that has at most `max_bytes`.

    Raises:
        Refused: TOO_LARGE; nothing was read.
    """
    size = os.fstat(stream.fileno()).st_size
    if size > max_bytes:
        raise Refused("TOO_LARGE", f"it has {size:,} bytes, at most {max_bytes:,} are taken")
    return stream.read()


def read_text(stream: BufferedReader, max_bytes: int) -> str:
    """The text of an open file, line ends as they are.

    Raises:
        Refused: EMPTY, NOT_TEXT, BAD_ENCODING or TOO_LARGE.
    """
    encoding = text_encoding(stream)
    try:
        text = read_whole(stream, max_bytes).decode(encoding)
    except UnicodeDecodeError as error:
        raise Refused("BAD_ENCODING", f"{BAD_ENCODING} (byte {error.start:,})") from error
    return storable(text)


def storable(text: str) -> str:
    """The text itself.

    Raises:
        Refused: EMPTY (white space alone), or NOT_TEXT (PostgreSQL stores no NUL character).
    """
    if not text.strip():
        raise Refused("EMPTY", "there is no text in it")
    if "\0" in text:
        raise Refused("NOT_TEXT", "it holds binary data (NUL characters)")
    return text


def text_document(
    key: str, text: str, kind: str, *, mode: ChunkMode | None = None, title: str = ""
) -> Document:
    """The document of a whole file."""
    metadata = {"path": key, "type": kind} | ({"title": title} if title else {})
    return Document(key, storable(text), metadata, mode=mode)


def read_plain(key: str, stream: BufferedReader, max_bytes: int) -> Iterator[Verdict]:
    yield text_document(key, read_text(stream, max_bytes), "txt")


def read_restructured(key: str, stream: BufferedReader, max_bytes: int) -> Iterator[Verdict]:
    yield text_document(key, read_text(stream, max_bytes), "rst")


def read_markdown(key: str, stream: BufferedReader, max_bytes: int) -> Iterator[Verdict]:
    yield text_document(key, read_text(stream, max_bytes), "md", mode="markdown")


class Lines(Iterator[str]):
    r"""The lines of a stream of text, each with its line end, in flat memory.

    Bytes that do not decode become lone surrogates, so that one bad line is its own fault
    (`is_unicode` tells); in UTF-16, where a bad unit may shift all that follows, they can also
    raise UnicodeDecodeError. A line over `limit` characters comes as its first `limit + 1` and
    the rest of it is skipped. `exhausted` tells whether the end was met.

    Args:
        stream: stays open; it is given back where the `with` block ends.
        limit: in characters.
        newline: as for `open`: "\n" splits at that alone, "" also at "\r".
    """

    def __init__(self, stream: BufferedReader, limit: int, *, newline: str) -> None:
        self.limit = limit
        self.exhausted = False
        self._text = io.TextIOWrapper(
            stream, text_encoding(stream), errors="surrogateescape", newline=newline
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._text.detach()

    def __next__(self) -> str:
        line = self._text.readline(self.limit + 1)
        if not line:
            self.exhausted = True
            raise StopIteration
        if self.is_too_long(line):
            rest = line
            while rest and not rest.endswith("\n"):
                rest = self._text.readline(self.limit + 1)
        return line

    def is_too_long(self, line: str) -> bool:
        return len(line) > self.limit

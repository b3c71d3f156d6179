"""Bytes to text, without guessing: UTF-8, or UTF-16 that says so with a byte order mark."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterator
from io import BufferedReader
from typing import Self

from embedfleet_producer.readers.file_metadata import described
from embedfleet_producer.readers.front_matter import BadFrontMatter, split_front_matter
from embedfleet_producer.readers.rejections import FileRejected, Note, Verdict
from embedfleet_schema.types import ChunkMode, Document

SNIFFED_BYTES = 8_192
_BLOCK_BYTES = 1 << 20
# A line over its limit is skipped up to its end, if that comes at all.
_SKIPPED_LIMITS = 16
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
BAD_ENCODING = (
    "the text is neither UTF-8 nor UTF-16 with a byte order mark: convert it to UTF-8, or name its "
    "encoding, as in --encoding cp1252"
)


def text_encoding(stream: BufferedReader) -> str:
    """The codec of a stream of text, from its first bytes, which stay unread.

    Raises:
        FileRejected: EMPTY, NOT_TEXT (a NUL byte where text has none) or BAD_ENCODING (UTF-32).
    """
    head = stream.peek(SNIFFED_BYTES)[:SNIFFED_BYTES]
    if not head:
        raise FileRejected("EMPTY", "it is empty")
    if head.startswith(_UTF_32):
        raise FileRejected("BAD_ENCODING", BAD_ENCODING)
    if head.startswith(_UTF_16):
        return "utf-16"
    if b"\0" in head:
        raise FileRejected("NOT_TEXT", "it holds binary data")
    return "utf-8-sig"


def read_whole(stream: BufferedReader, max_bytes: int) -> bytes:
    """All bytes of a stream that has at most `max_bytes`, whatever size it is said to have.

    Raises:
        FileRejected: TOO_LARGE; at most `max_bytes` were read.
    """
    size = _size(stream)
    if size > max_bytes:
        raise FileRejected("TOO_LARGE", f"it has {size:,} bytes; the most is {max_bytes:,}")
    blocks: list[bytes] = []
    room = max_bytes
    # A file of /proc has no size, and one that is written to has another by now.
    while block := stream.read(min(_BLOCK_BYTES, room + 1)):
        room -= len(block)
        if room < 0:
            raise FileRejected("TOO_LARGE", f"it has more than {max_bytes:,} bytes")
        blocks.append(block)
    return b"".join(blocks)


def _size(stream: BufferedReader) -> int:
    try:
        return os.fstat(stream.fileno()).st_size
    except OSError:
        # What is unpacked on the way has no file of its own.
        return 0


def read_text(stream: BufferedReader, max_bytes: int) -> str:
    """The text of an open file, line ends as they are.

    Raises:
        FileRejected: EMPTY, NOT_TEXT, BAD_ENCODING or TOO_LARGE.
    """
    encoding = text_encoding(stream)
    try:
        text = read_whole(stream, max_bytes).decode(encoding)
    except UnicodeDecodeError as error:
        raise FileRejected("BAD_ENCODING", f"{BAD_ENCODING} (byte {error.start:,})") from error
    return storable(text)


def storable(text: str) -> str:
    """The text itself.

    Raises:
        FileRejected: EMPTY (white space alone), or NOT_TEXT (PostgreSQL stores no NUL character).
    """
    if not text.strip():
        raise FileRejected("EMPTY", "it has no text")
    if "\0" in text:
        raise FileRejected("NOT_TEXT", "it holds binary data (NUL characters)")
    return text


def text_document(key: str, text: str, kind: str, *, mode: ChunkMode | None = None) -> Document:
    """The document of a whole file."""
    return Document(key, storable(text), {"path": key, "type": kind}, mode=mode)


def read_plain(key: str, stream: BufferedReader, max_bytes: int) -> Iterator[Verdict]:
    yield text_document(key, read_text(stream, max_bytes), "txt")


def read_restructured(key: str, stream: BufferedReader, max_bytes: int) -> Iterator[Verdict]:
    yield text_document(key, read_text(stream, max_bytes), "rst")


def read_markdown(key: str, stream: BufferedReader, max_bytes: int) -> Iterator[Verdict]:
    """One document; its front matter goes to the metadata and is no part of the text."""
    whole = read_text(stream, max_bytes)
    try:
        said, text = split_front_matter(whole)
    except BadFrontMatter as error:
        yield Note(key, "BAD_FRONT_MATTER", f"it is taken as text: {error}")
        said, text = {}, whole
    yield from described(text_document(key, text, "md", mode="markdown"), said)


class Lines(Iterator[str]):
    r"""The lines of a stream of text, each with its line end, in flat memory.

    Bytes that do not decode become lone surrogates, so that one bad line is its own fault
    (`is_unicode` tells); in UTF-16, where a bad unit may shift all that follows, they can also
    raise UnicodeDecodeError. A line over `limit` characters comes as its first `limit + 1` and
    the rest of it is skipped. `exhausted` tells whether the end was met; `row_characters` counts
    what was given out, until it is set back.

    Args:
        stream: stays open; it is given back where the `with` block ends.
        limit: in characters.
        newline: as for `open`: "\n" splits at that alone, "" also at "\r".
    """

    def __init__(self, stream: BufferedReader, limit: int, *, newline: str) -> None:
        self.limit = limit
        self.exhausted = False
        self.row_characters = 0
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
            self._skip_rest(line)
        self.row_characters += len(line)
        return line

    def _skip_rest(self, line: str) -> None:
        rest = line
        for _ in range(_SKIPPED_LIMITS):
            if not rest or rest.endswith("\n"):
                return
            rest = self._text.readline(self.limit + 1)
        raise FileRejected(
            "TOO_LARGE",
            f"a line has no end within {_SKIPPED_LIMITS * self.limit:,} "
            "characters; it was read up to there",
        )

    def is_too_long(self, line: str) -> bool:
        return len(line) > self.limit

"""Standard input: JSON Lines if it starts as such, else one text document."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator
from io import BufferedReader
from typing import TYPE_CHECKING, BinaryIO

from embedfleet_producer.readers.refusals import Refused, Verdict, is_unicode
from embedfleet_producer.readers.rows import TEXT_FIELDS, parse_object
from embedfleet_producer.readers.tables import jsonl_verdicts
from embedfleet_producer.readers.text import BAD_ENCODING, Lines, text_document

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Small, so that rows that trickle through a pipe are not held back for long.
_BUFFER_BYTES = 8_192


def read_stdin(key: str, stdin: BinaryIO, max_bytes: int) -> Iterator[Verdict]:
    """Rows if the first line with anything on it is a JSON object with a text field.

    Otherwise one document of all that follows, from that line on.
    """
    stream: BufferedReader = BufferedReader(_Borrowed(stdin), _BUFFER_BYTES)
    with Lines(stream, max_bytes, newline="\n") as lines:
        numbered = enumerate(lines, 1)
        first = next((found for found in numbered if not found[1].isspace()), None)
        if first is None:
            raise Refused("EMPTY", "there is no text in it")
        everything = itertools.chain([first], numbered)
        if _is_row(first[1]):
            yield from jsonl_verdicts(key, everything, max_bytes)
        else:
            yield text_document(key, _joined((line for _, line in everything), max_bytes), "txt")


def _is_row(line: str) -> bool:
    try:
        return not set(TEXT_FIELDS).isdisjoint(parse_object(line))
    except ValueError:
        return False


def _joined(lines: Iterable[str], max_bytes: int) -> str:
    taken: list[str] = []
    room = max_bytes
    for line in lines:
        if not is_unicode(line):
            raise Refused("BAD_ENCODING", BAD_ENCODING)
        room -= len(line.encode())
        if room < 0:
            raise Refused("TOO_LARGE", f"it has more than {max_bytes:,} bytes")
        taken.append(line)
    return "".join(taken)


class _Borrowed(io.RawIOBase):
    """The caller's stream, which stays open when the buffers around it go."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer unless the end is near: the first bytes decide what the text is."""
        view = memoryview(buffer).cast("B")
        data = self._stream.read(len(view))
        view[: len(data)] = data
        return len(data)

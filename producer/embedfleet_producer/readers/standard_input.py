"""Standard input: JSON Lines if it starts as such, else one text document."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator
from io import BufferedReader
from typing import TYPE_CHECKING, BinaryIO

from embedfleet_producer.readers.cells import parse_object
from embedfleet_producer.readers.encodings import recoded
from embedfleet_producer.readers.rejections import FileRejected, Verdict
from embedfleet_producer.readers.rows import Rows
from embedfleet_producer.readers.tables import jsonl_verdicts, read_csv
from embedfleet_producer.readers.text import Lines, text_document
from embedfleet_schema.unicode_forms import is_unicode

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Small, so that rows that trickle through a pipe are not held back for long.
_BUFFER_BYTES = 8_192


def read_stdin(stdin: BinaryIO, max_bytes: int, rows: Rows) -> Iterator[Verdict]:
    """Rows if the first line with anything on it is a JSON object with a text column.

    Where columns were named, any JSON object will do, and nothing else; where a delimiter was, it
    is CSV. Otherwise one document of all that follows, from that line on.
    """
    stream: BufferedReader = BufferedReader(_Borrowed(stdin), _BUFFER_BYTES)
    if rows.options.encoding is not None:
        stream = recoded(stream, rows.options.encoding)
    if rows.options.delimiter is not None:
        yield from read_csv(stream, max_bytes, rows)
        return
    with Lines(stream, max_bytes, newline="\n") as lines:
        numbered = enumerate(lines, 1)
        first = next((found for found in numbered if not found[1].isspace()), None)
        if first is None:
            raise FileRejected("EMPTY", "it has no text")
        everything = itertools.chain([first], numbered)
        if _is_row(first[1], rows):
            yield from jsonl_verdicts(everything, max_bytes, rows)
        elif rows.options.names_columns:
            reason = "a column was named, but the first line is not a JSON object"
            raise FileRejected("BAD_JSON", f"{reason}; to read CSV, set --delimiter")
        else:
            text = _joined((line for _, line in everything), max_bytes, rows.bad_encoding)
            yield rows.whole(text_document(rows.name, text, "txt"))


def _is_row(line: str, rows: Rows) -> bool:
    try:
        return rows.takes(parse_object(line))
    except ValueError:
        return False


def _joined(lines: Iterable[str], max_bytes: int, bad_encoding: str) -> str:
    taken: list[str] = []
    room = max_bytes
    for line in lines:
        if not is_unicode(line):
            raise FileRejected("BAD_ENCODING", bad_encoding)
        room -= len(line.encode())
        if room < 0:
            raise FileRejected("TOO_LARGE", f"it has more than {max_bytes:,} bytes")
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

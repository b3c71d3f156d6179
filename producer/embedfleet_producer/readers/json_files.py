"""JSON files: an array is rows, one object is one document."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator
from io import BufferedReader

from embedfleet_producer.readers.cells import parse_object
from embedfleet_producer.readers.json_structure import elements
from embedfleet_producer.readers.rejections import FileRejected, Verdict
from embedfleet_producer.readers.rows import Rows
from embedfleet_producer.readers.tables import jsonl_verdicts
from embedfleet_producer.readers.text import text_document, text_encoding
from embedfleet_schema.unicode_forms import is_unicode

_PIECE_CHARACTERS = 65_536


def read_json(stream: BufferedReader, max_bytes: int, rows: Rows) -> Iterator[Verdict]:
    """Rows of an array, numbered from 1, in flat memory; or one document.

    An object with a text column is a row, called by the file if it has no key of its own. Another
    object is taken as the text that it is. JSON Lines under this name are read as such.
    """
    text = io.TextIOWrapper(stream, text_encoding(stream), errors="surrogateescape", newline="")
    try:
        pieces = iter(lambda: text.read(_PIECE_CHARACTERS), "")
        first = next((piece for piece in pieces if not piece.isspace()), "")
        everything = itertools.chain([first], pieces)
        if first.lstrip().startswith("["):
            numbered = enumerate(elements(everything, max_bytes), 1)
            yield from jsonl_verdicts(numbered, max_bytes, rows)
        else:
            yield from _single(_joined(everything, max_bytes, rows), max_bytes, rows)
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise FileRejected("BAD_JSON", str(error)) from error
    finally:
        text.detach()


def _joined(pieces: Iterable[str], max_characters: int, rows: Rows) -> str:
    taken: list[str] = []
    room = max_characters
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            raise FileRejected("TOO_LARGE", f"it has more than {max_characters:,} characters")
        taken.append(piece)
    text = "".join(taken)
    if not is_unicode(text):
        raise FileRejected("BAD_ENCODING", rows.bad_encoding)
    return text


def _single(text: str, max_bytes: int, rows: Rows) -> Iterator[Verdict]:
    if not text.strip():
        raise FileRejected("EMPTY", "it is empty")
    try:
        row = parse_object(text)
    except ValueError:
        lines = text.split("\n")
        if not _starts_with_rows(lines):
            raise
        filled = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        yield from jsonl_verdicts(filled, max_bytes, rows)
        return
    if rows.takes(row):
        yield rows.verdict(row, None)
    else:
        yield rows.whole(text_document(rows.name, text, "json", mode="text"))


def _starts_with_rows(lines: list[str]) -> bool:
    filled = itertools.islice((line for line in lines if line.strip()), 2)
    try:
        return len([parse_object(line) for line in filled]) > 1
    except ValueError:
        return False

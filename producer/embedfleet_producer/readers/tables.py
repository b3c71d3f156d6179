"""Files of rows, one document per row, read row by row: JSON Lines and CSV."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator
from io import BufferedReader

from embedfleet_producer.readers.refusals import Refused, Verdict, is_unicode
from embedfleet_producer.readers.rows import TEXT_FIELDS, parse_object, row_document
from embedfleet_producer.readers.text import BAD_ENCODING, Lines
from embedfleet_schema.types import Rejection

NO_ROWS = "there are no rows in it"
# A cell of nothing takes a hundred times its length in memory.
MAX_CELLS = 1_000_000


def read_jsonl(key: str, stream: BufferedReader, max_bytes: int) -> Iterator[Verdict]:
    """One verdict per line; lines of white space do not count."""
    with Lines(stream, max_bytes, newline="\n") as lines:
        yield from jsonl_verdicts(key, enumerate(lines, 1), max_bytes)


def jsonl_verdicts(key: str, lines: Iterable[tuple[int, str]], max_line: int) -> Iterator[Verdict]:
    verdicts = (
        _line_verdict(line, f"{key}#{number}", max_line)
        for number, line in lines
        if not line.isspace()
    )
    yield from _refuse_none(verdicts)


def _line_verdict(line: str, place: str, max_line: int) -> Verdict:
    if len(line) > max_line:
        return Rejection(place, "TOO_LARGE", f"the line has more than {max_line:,} characters")
    if not is_unicode(line):
        return Rejection(place, "BAD_ENCODING", BAD_ENCODING)
    try:
        row = parse_object(line)
    except ValueError as error:
        return Rejection(place, "BAD_JSON", str(error))
    return row_document(row, place)


def read_tsv(key: str, stream: BufferedReader, max_bytes: int) -> Iterator[Verdict]:
    """As `read_csv`, with tabs between the cells."""
    return read_csv(key, stream, max_bytes, delimiter="\t")


def read_csv(
    key: str, stream: BufferedReader, max_bytes: int, *, delimiter: str = ","
) -> Iterator[Verdict]:
    """One verdict per row below the header row, numbered by the line that it starts on.

    Commas, double quotes, one row up to `max_bytes` characters. What leaves the place of the
    next row in doubt (a cell too large, a quote that is never closed) ends the file.
    """
    # The limit is the process's; raising it for the others too is harmless, lowering it is not.
    csv.field_size_limit(max(csv.field_size_limit(), max_bytes))
    with Lines(stream, max_bytes, newline="") as lines:
        yield from _csv_verdicts(key, _csv_rows(lines, delimiter))


def _csv_verdicts(key: str, rows: Iterator[tuple[int, list[str]]]) -> Iterator[Verdict]:
    header = next(rows, None)
    if header is None:
        raise Refused("EMPTY", NO_ROWS)
    names = header[1]
    if not set(TEXT_FIELDS) & set(names):
        raise Refused("MISSING_TEXT", f"the header row names no column {' or '.join(TEXT_FIELDS)}")
    yield from _refuse_none(_cells_verdict(names, cells, f"{key}#{line}") for line, cells in rows)


def _csv_rows(lines: Lines, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that hold anything, with the line that each starts on.

    Raises:
        Refused: TOO_LARGE or BAD_CSV; the rows before it have been given out.
    """
    rows = csv.reader(_short_enough(lines, delimiter), delimiter=delimiter)
    while True:
        lines.row_characters = 0
        first_line = rows.line_num + 1
        try:
            cells = next(rows, None)
        except csv.Error as error:
            raise Refused("BAD_CSV", f"{error}, in the row of line {first_line}") from error
        if cells is None:
            return
        # A whole row never asks for the line after it: the reader was waiting for a quote.
        if lines.exhausted:
            raise Refused("BAD_CSV", f"a quote in the row of line {first_line} is never closed")
        if cells:
            yield first_line, cells


def _short_enough(lines: Lines, delimiter: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        # A row goes on over lines while a quote is open.
        if lines.is_too_long(line) or lines.row_characters > lines.limit:
            reason = f"the row at line {number} has more than {lines.limit:,} characters"
            raise Refused("TOO_LARGE", reason)
        if line.count(delimiter) > MAX_CELLS:
            raise Refused("TOO_LARGE", f"line {number} has more than {MAX_CELLS:,} cells")
        yield line


def _cells_verdict(names: list[str], cells: list[str], place: str) -> Verdict:
    if len(cells) > len(names):
        reason = f"{len(cells)} cells under a header of {len(names)} (is a quote missing?)"
        return Rejection(place, "BAD_CSV", reason)
    if not all(map(is_unicode, cells)):
        return Rejection(place, "BAD_ENCODING", BAD_ENCODING)
    return row_document(dict(zip(names, cells, strict=False)), place)


def _refuse_none(verdicts: Iterator[Verdict]) -> Iterator[Verdict]:
    """The verdicts; a file without any is refused as empty."""
    first = next(verdicts, None)
    if first is None:
        raise Refused("EMPTY", NO_ROWS)
    yield from itertools.chain([first], verdicts)

"""Files of rows, one document per row, read row by row: JSON Lines and CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from io import BufferedReader

from embedfleet_producer.readers.cells import parse_object
from embedfleet_producer.readers.columns import Layout
from embedfleet_producer.readers.rejections import FileRejected, Verdict
from embedfleet_producer.readers.rows import NO_ROWS, Row, Rows
from embedfleet_producer.readers.text import Lines
from embedfleet_schema.types import Rejection
from embedfleet_schema.unicode_forms import is_unicode

# A cell of nothing takes a hundred times its length in memory.
MAX_CELLS = 1_000_000
_OTHER_DELIMITERS = {";": "';'", "\t": "tab", "|": "'|'", ",": "','"}


def read_jsonl(stream: BufferedReader, max_bytes: int, rows: Rows) -> Iterator[Verdict]:
    """One verdict per line; lines of white space do not count."""
    with Lines(stream, max_bytes, newline="\n") as lines:
        yield from jsonl_verdicts(enumerate(lines, 1), max_bytes, rows)


def jsonl_verdicts(
    lines: Iterable[tuple[int, str]], max_line: int, rows: Rows
) -> Iterator[Verdict]:
    yield from rows.verdicts(
        (number, _json_row(line, rows, rows.place(number), max_line))
        for number, line in lines
        if not line.isspace()
    )


def _json_row(line: str, rows: Rows, place: str, max_line: int) -> Row | Rejection:
    if len(line) > max_line:
        return Rejection(place, "TOO_LARGE", f"the line has more than {max_line:,} characters")
    if not is_unicode(line):
        return Rejection(place, "BAD_ENCODING", rows.bad_encoding)
    try:
        return parse_object(line)
    except ValueError as error:
        return Rejection(place, "BAD_JSON", str(error))


def read_tsv(stream: BufferedReader, max_bytes: int, rows: Rows) -> Iterator[Verdict]:
    """CSV with tabulators."""
    yield from _read_cells(stream, max_bytes, rows, rows.options.delimiter or "\t")


def read_csv(stream: BufferedReader, max_bytes: int, rows: Rows) -> Iterator[Verdict]:
    """One verdict per row below the header row, numbered by the line that it starts on.

    Commas unless told otherwise, double quotes, one row up to `max_bytes` characters. What leaves
    the place of the next row in doubt (a cell too large, a quote that is never closed or that is
    wrong after a line end) ends the file.
    """
    yield from _read_cells(stream, max_bytes, rows, rows.options.delimiter or ",")


def _read_cells(
    stream: BufferedReader, max_bytes: int, rows: Rows, delimiter: str
) -> Iterator[Verdict]:
    # The limit is the process's; raising it for the others too is harmless, lowering it is not.
    csv.field_size_limit(max(csv.field_size_limit(), max_bytes))
    with Lines(stream, max_bytes, newline="") as lines:
        found = _csv_rows(lines, delimiter)
        _, header = next(found, (0, None))
        if header is None:
            raise FileRejected("EMPTY", NO_ROWS)
        if isinstance(header, str):
            raise FileRejected("BAD_CSV", f"the header row: {header}")
        if not all(map(is_unicode, header)):
            raise FileRejected("BAD_ENCODING", rows.bad_encoding)
        names = _header(header, delimiter, rows)
        yield from rows.verdicts((line, _named(names, cells, line, rows)) for line, cells in found)


def _header(cells: list[str], delimiter: str, rows: Rows) -> list[str]:
    """The names of the columns.

    Raises:
        FileRejected: as `Rows.header`; it also says where another delimiter would have done.
    """
    try:
        return rows.header(cells)
    except FileRejected as refused:
        for other, written in _OTHER_DELIMITERS.items():
            names = [name.strip('" ') for name in delimiter.join(cells).split(other)]
            is_likely = len(cells) == 1 < len(names) or Layout.of(names, rows.options).texts
            if other != delimiter and is_likely:
                reason = f"{refused.reason}; or set what is between cells: --delimiter {written}"
                raise FileRejected(refused.code, reason) from None
        raise


def _csv_rows(lines: Lines, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Rows that hold anything, with the line that each starts on; a broken one as what is wrong.

    Raises:
        FileRejected: TOO_LARGE or BAD_CSV; the rows before it have been given out.
    """
    reader = csv.reader(_short_enough(lines, delimiter), delimiter=delimiter, strict=True)
    while True:
        lines.row_characters = 0
        first_line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            # At the end of the file the reader was waiting for a quote.
            if lines.exhausted:
                reason = f"a quote in the row of line {first_line} is not closed"
                raise FileRejected("BAD_CSV", reason) from error
            if reader.line_num > first_line or not _is_about_quotes(error):
                reason = f"{error}, in the row of line {first_line}"
                raise FileRejected("BAD_CSV", reason) from error
            yield (
                first_line,
                "text follows the closing quote of a cell (double the quotes inside a cell)",
            )
            continue
        if cells is None:
            return
        if cells:
            yield first_line, cells


def _is_about_quotes(error: csv.Error) -> bool:
    """Whether only this row is at fault: of a cell too large, the rest of the line is unread."""
    return "expected after" in str(error)


def _short_enough(lines: Lines, delimiter: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        # A row goes on over lines while a quote is open.
        if lines.is_too_long(line) or lines.row_characters > lines.limit:
            reason = f"the row at line {number} has more than {lines.limit:,} characters"
            raise FileRejected("TOO_LARGE", reason)
        if line.count(delimiter) > MAX_CELLS:
            raise FileRejected("TOO_LARGE", f"line {number} has more than {MAX_CELLS:,} cells")
        yield line


def _named(names: list[str], cells: list[str] | str, line: int, rows: Rows) -> Row | Rejection:
    """The cells by the names of their columns."""
    place = rows.place(line)
    if isinstance(cells, str):
        return Rejection(place, "BAD_CSV", cells)
    if any(cells[len(names) :]):
        reason = f"{len(cells)} cells under a header of {len(names)} (is a quote missing?)"
        return Rejection(place, "BAD_CSV", reason)
    if not all(map(is_unicode, cells)):
        return Rejection(place, "BAD_ENCODING", rows.bad_encoding)
    if len(cells) < len(names):
        rows.count("fewer cells than the header has")
        cells = [*cells, *[""] * (len(names) - len(cells))]
    return dict(zip(names, cells, strict=False))

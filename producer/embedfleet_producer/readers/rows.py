"""One row of a table to one verdict; the same rules for JSON, CSV and Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from embedfleet_producer.readers.cells import (
    BadKey,
    Unreadable,
    is_missing,
    key_text,
    text_of,
    why_no_text,
)
from embedfleet_producer.readers.columns import (
    TEXT_COLUMNS,
    Layout,
    Missing,
    missing_column,
    near,
    unique_names,
)
from embedfleet_producer.readers.metadata import RowMetadata
from embedfleet_producer.readers.options import ReadOptions
from embedfleet_producer.readers.rejections import FileRejected, Verdict
from embedfleet_producer.readers.report import MOST_COLUMNS, WHOLE_TEXT, Shape, Tally
from embedfleet_producer.readers.text import BAD_ENCODING
from embedfleet_schema.types import Document, Rejection

NO_ROWS = "it has no rows"
# So many rows may come before the first that has the columns.
LOOK_AHEAD = 1_000

Row = Mapping[str, Any]


class Rows:
    """The rows of one file: their verdicts, and what is to be said of them as a whole.

    In a row, the first column of texts that holds one is the text, the first column of keys that
    holds anything is the key (else `<name>#<number>`). A `metadata` object (or a string that is
    one in JSON) and all other columns are the metadata; the object wins. What is null or empty is
    no value; what cannot be kept is counted for `shape`.
    """

    # Whether each row has a vector, which is read along, and in which column of a table.
    has_vectors = False
    vector_column: str | None = None
    LAYOUTS_KEPT = 256

    def __init__(self, name: str, options: ReadOptions, source: str | None = None) -> None:
        self.name = name
        self.options = options
        self.source = options.source or source
        self._tally = Tally()
        self._heard: Shape | None = None
        self._layouts: dict[tuple[str, ...], Layout] = {}
        self._metadata = RowMetadata(options, self._tally)
        self._names: dict[str, None] = {}
        self._complete = False

    def shape(self) -> Shape:
        """What became of the file until now, here or where it is read."""
        if self._heard is not None:
            return self._heard
        shape = self._tally.shape(self.name)
        wanted = self.options.metadata_columns or ()
        absent = [name for name in wanted if name not in self._names]
        if self._tally.documents:
            for name in absent:
                likely = near([name], self._names)
                hint = f"; did you mean {likely[0]}?" if likely else ""
                shape.notes.append(f"there is no column {name} for the metadata{hint}")
        return shape

    def hear(self, shape: Shape) -> None:
        """The shape of a file that another process reads."""
        self._heard = shape

    def whole(self, document: Document) -> Document:
        """A file that is one document, as it is stored."""
        self._tally.document(WHOLE_TEXT, "its name", document.metadata)
        return replace(document, key=self.options.key_prefix + document.key, source=self.source)

    def takes(self, row: Row) -> bool:
        """Whether an object that could be a text as well is a row."""
        return self.options.names_columns or bool(Layout.of(list(row), self.options).texts)

    def hear_file(self, metadata: Mapping[bytes, bytes]) -> None:
        """What a file says of itself beside its rows; of texts nobody asks."""

    def header(self, names: Sequence[str]) -> list[str]:
        """The names of the columns of a table, each one once.

        Raises:
            FileRejected: MISSING_TEXT, MISSING_KEY or DUPLICATE_COLUMN.
        """
        unique, renamed = unique_names(names)
        layout = Layout.of(unique, self.options)
        if missing := missing_column(layout, unique, self.options, who="it has"):
            raise FileRejected(missing.code, missing.reason)
        for chosen in (*layout.texts[:1], *layout.keys[:1]):
            if list(names).count(chosen) > 1:
                raise FileRejected(
                    "DUPLICATE_COLUMN", f"two columns are called {chosen}: rename one"
                )
        for words in renamed:
            self._tally.say(words)
        self._complete = True
        self._names.update(dict.fromkeys(unique))
        return unique

    def count(self, what: str, rows: int = 1) -> None:
        """Something about rows that is said once per file, with their number."""
        self._tally.count(what, rows)

    def count_vectors(self, column: str, rows: int = 1) -> None:
        """Vectors that are left out of the metadata."""
        self._tally.count_vectors(column, rows)

    def say(self, what: str) -> None:
        """Something that is said once per file."""
        self._tally.say(what)

    @property
    def bad_encoding(self) -> str:
        """What is wrong with text that cannot be decoded."""
        encoding = self.options.encoding
        return BAD_ENCODING if encoding is None else f"the text is not {encoding}"

    def place(self, number: int | None) -> str:
        return self.name if number is None else f"{self.name}#{number}"

    def verdicts(self, rows: Iterable[tuple[int, Row | Rejection]]) -> Iterator[Verdict]:
        """One verdict per row; the rows before the first that has the columns wait for it.

        Raises:
            FileRejected: EMPTY; MISSING_TEXT or MISSING_KEY where no row has the column.
        """
        lacking: list[Verdict] = []
        refused = FileRejected("EMPTY", NO_ROWS)
        is_empty = True
        for number, row in rows:
            is_empty = False
            if isinstance(row, Rejection):
                yield row
                continue
            if not self._complete and (missing := self._missing(row)):
                if not lacking:
                    refused = FileRejected(missing.code, missing.reason)
                lacking.append(self.verdict(row, number))
                if len(lacking) > LOOK_AHEAD:
                    raise refused
                continue
            if not self._complete:
                self._complete = True
                yield from lacking
            yield self.verdict(row, number)
        if is_empty or (lacking and not self._complete):
            raise refused

    def verdict(self, row: Row, number: int | None) -> Verdict:
        """The document in a row that has the columns, or why there is none.

        A row that is all of its file has no number, and is called by the file.
        """
        layout = self._layout(row)
        place = self.place(number)
        for text_name in layout.texts:
            text = text_of(row[text_name])
            if text is not None:
                break
        else:
            return self._without_text(row, layout, place)
        try:
            key_name, key = self._key(row, layout, place)
        except BadKey as bad:
            return Rejection(place, "BAD_KEY", str(bad))
        metadata = self._metadata.of(row, layout, text_name, key_name)
        self._tally.document(text_name, key_name or _place_words(number), metadata)
        key = self.options.key_prefix + key
        return Document(key, text, metadata, source=self.source, row=number)

    def _missing(self, row: Row) -> Missing | None:
        return missing_column(self._layout(row), row.keys(), self.options, who="its rows have")

    def _layout(self, row: Row) -> Layout:
        names = tuple(row)
        known = self._layouts.get(names)
        if known is None:
            if len(self._layouts) >= self.LAYOUTS_KEPT:
                self._layouts.clear()
            known = self._layouts[names] = Layout.of(names, self.options)
            if len(self._names) < MOST_COLUMNS:
                self._names.update(dict.fromkeys(names))
            self._say_choices(known)
        return known

    def _say_choices(self, layout: Layout) -> None:
        if len(layout.keys) > 1:
            first, *others = layout.keys
            self._tally.say(
                f"{first} is the key, not {', '.join(others)}; to change it: --key-column"
            )
        if not layout.keys and layout.texts:
            ids = [name for name in layout.others if name.lower().endswith(("id", "key"))]
            example = ids[0] if ids else "<name>"
            self._tally.say(
                "no column looks like a key, so the key is the row's number, which changes when "
                f"rows are added before it; set the key with --key-column {example}"
            )
        titles = [name for name in layout.others if name.strip().casefold() == "title"]
        if titles and layout.texts:
            self._tally.say(f"{titles[0]} is metadata: it is not embedded with the text")

    def _without_text(self, row: Row, layout: Layout, place: str) -> Rejection:
        for name in layout.texts:
            if isinstance(row[name], Unreadable):
                return Rejection(place, "BAD_VALUE", f"{name} {why_no_text(row[name])}")
        if layout.texts:
            reason = ", ".join(f"{name} {why_no_text(row[name])}" for name in layout.texts)
        else:
            wanted = [self.options.text_column] if self.options.text_column else TEXT_COLUMNS
            reason = f"the row has no column {' or '.join(wanted)}"
        return Rejection(place, "MISSING_TEXT", reason)

    def _key(self, row: Row, layout: Layout, place: str) -> tuple[str | None, str]:
        """The column of the key, if one has it, and the key.

        Raises:
            BadKey: the column that was asked for is not there or empty, or no key is in it.
        """
        for name in layout.keys:
            if not is_missing(row[name]):
                try:
                    return name, key_text(row[name])
                except BadKey as bad:
                    raise BadKey(f"{name} is not a key: {bad}") from None
        if self.options.key_column is not None:
            lacks = "is empty" if layout.keys else "is not in the row"
            raise BadKey(f"the column {self.options.key_column} {lacks}")
        if layout.keys:
            self.count(f"{layout.keys[0]} is empty: the key is the row's number")
        return None, place


def _place_words(number: int | None) -> str:
    return "its name" if number is None else "the row's number"

"""Rows that hold a text and its vector: our own export, and those of other vector databases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from embedfleet_producer.readers.cells import (
    BadKey,
    is_missing,
    key_text,
    metadata_object,
    text_of,
)
from embedfleet_producer.readers.columns import (
    KEY_COLUMNS,
    METADATA_COLUMN,
    Layout,
    Missing,
    unique_names,
)
from embedfleet_producer.readers.embedded_row import BadVector, EmbeddedRow, packed
from embedfleet_producer.readers.options import ReadOptions
from embedfleet_producer.readers.rejections import FileRejected, Verdict
from embedfleet_producer.readers.rows import Row, Rows
from embedfleet_schema.embedded_text import text_digest
from embedfleet_schema.types import LARGEST_INT, Document, Rejection

# What is said of all rows of a Parquet file.
FILE_METADATA = "embedfleet"
# The columns of our own export, beside `vector`, which may lie in a file of its own.
OWN_COLUMNS = ("document", "position", "start", "end", "text", "metadata")
OWN_CHECKS = ("chunks", "sha256", "model", "space")
CONTEXT = "context"
_IS_OWN = {"document", "position", "text"}

# Of others, in the order of preference.
VECTOR_COLUMNS = ("vector", "embedding", "embeddings", "values", "vectors")
TEXTS = ("text", "document", "documents", "texts", "content", "page_content", "body")
KEYS = ("ids", "langchain_id", "node_id", *KEY_COLUMNS)
METADATA = ("metadata", "metadatas", "metadata_", "cmetadata", "langchain_metadata")
# What Pinecone and Chroma keep beside it, and a collection has no place for.
LEFT_OUT = ("sparse_values", "sparse_vector", "uris", "data")


@dataclass(frozen=True, slots=True)
class EmbeddedLayout:
    """Which columns of a row are what; a text that is in no column is looked for in the metadata,
    under the names `fields`.
    """

    is_own: bool
    key: str | None
    vector: str | None
    text: str | None
    metadata: str | None
    fields: tuple[str, ...]
    others: tuple[str, ...]

    @classmethod
    def of(cls, names: Sequence[str], options: ReadOptions) -> EmbeddedLayout:
        is_own = set(names) >= _IS_OWN
        if is_own:
            vector = "vector" if "vector" in names else None
            return cls(True, "document", vector, "text", _first(METADATA, names), (), ())  # noqa: FBT003
        key = options.key_column or _first(KEYS, names)
        wanted = TEXTS if options.text_column is None else (options.text_column,)
        text = _first([name for name in wanted if name != key], names)
        metadata, vector = _first(METADATA, names), _first(VECTOR_COLUMNS, names)
        used = {key, text, metadata, vector, *LEFT_OUT}
        others = tuple(name for name in names if name not in used)
        return cls(False, key, vector, text, metadata, wanted, others)  # noqa: FBT003


class EmbeddedRows(Rows):
    """The rows of one file of vectors: each is an `EmbeddedRow`, also where something is wrong with
    it, because its document cannot do without it.
    """

    has_vectors = True

    def __init__(self, name: str, options: ReadOptions, source: str | None = None) -> None:
        super().__init__(name, options, source)
        self._known: dict[tuple[str, ...], EmbeddedLayout] = {}
        self._model: str | None = None
        self._space: str | None = None

    def whole(self, document: Document) -> Document:
        raise FileRejected("MISSING_VECTOR", f"{document.key} is a text without a vector")

    def takes(self, row: Row) -> bool:
        return self._lacking(list(row)) is None

    def hear_file(self, metadata: Mapping[bytes, bytes]) -> None:
        """What a Parquet file says of all its rows."""
        with suppress(ValueError, RecursionError):
            said = json.loads(metadata.get(FILE_METADATA.encode(), b"null"))
            if isinstance(said, dict):
                self._model = _word(said.get("model"))
                self._space = _word(said.get("space"))

    def header(self, names: Sequence[str]) -> list[str]:
        unique, _ = unique_names(names)
        if missing := self._lacking(unique):
            raise FileRejected(missing.code, missing.reason)
        self._complete = True
        self.vector_column = self._columns(unique).vector
        return unique

    def verdict(self, row: Row, number: int | None) -> Verdict:
        layout = self._columns(list(row))
        place = self.place(number)
        given = row.get(layout.key or "")
        if is_missing(given):
            return Rejection(place, "BAD_KEY", f"{layout.key or 'the key'} is empty")
        try:
            key = self.options.key_prefix + key_text(given)
        except BadKey as bad:
            return Rejection(place, "BAD_KEY", f"{layout.key} is not a key: {bad}")
        taken = _Cells(row, layout)
        metadata = self._kept(row, layout, taken.metadata)
        self._tally.document("text", layout.key or "", metadata)
        return EmbeddedRow(
            key,
            taken.text,
            metadata,
            source=self.options.source,
            file=self.source,
            row=number,
            vector=taken.vector,
            context=taken.context,
            start=taken.numbers.get("start"),
            end=taken.numbers.get("end"),
            chunks_of=taken.numbers.get("chunks"),
            model=_word(row.get("model")) or self._model if layout.is_own else None,
            space=_word(row.get("space")) or self._space if layout.is_own else None,
            code=taken.code,
            fault=taken.fault,
        )

    def _kept(self, row: Row, layout: EmbeddedLayout, given: Mapping[str, Any]) -> dict[str, Any]:
        """The metadata: the object, and the columns that have no other use."""
        plain = {name: row[name] for name in layout.others} | {METADATA_COLUMN: given}
        kept = Layout((), (), (*layout.others, METADATA_COLUMN))
        return self._metadata.of(plain, kept, "", None)

    def _missing(self, row: Row) -> Missing | None:
        return self._lacking(list(row))

    def _columns(self, names: Sequence[str]) -> EmbeddedLayout:
        key = tuple(names)
        if key not in self._known:
            if len(self._known) >= self.LAYOUTS_KEPT:
                self._known.clear()
            self._known[key] = EmbeddedLayout.of(key, self.options)
        return self._known[key]

    def _lacking(self, names: Sequence[str]) -> Missing | None:
        """What a row must have."""
        layout = self._columns(names)
        shown = ", ".join(list(names)[:12]) or "none"
        if layout.key not in names:
            wanted = self.options.key_column or ", ".join(KEYS)
            reason = f"there is no column {wanted}; there are: {shown}. Name it: --key-column NAME"
            return Missing("MISSING_KEY", reason)
        if layout.vector is None and not layout.is_own:
            reason = f"there is no column {', '.join(VECTOR_COLUMNS)}; there are: {shown}"
            return Missing("MISSING_VECTOR", reason)
        if layout.text is None and layout.metadata is None:
            wanted = self.options.text_column or ", ".join(TEXTS)
            reason = f"there is no column {wanted}; there are: {shown}. Name it: --text-column NAME"
            return Missing("MISSING_TEXT", reason)
        return None


class _Cells:
    """What the cells of one row hold, and the first that is wrong."""

    def __init__(self, row: Row, layout: EmbeddedLayout) -> None:
        self.code: str | None = None
        self.fault = ""
        self.metadata = self._metadata(row, layout)
        self.text = self._text(row, layout)
        self.context = _word(row.get(CONTEXT)) if layout.is_own else None
        self.vector = self._vector(row, layout)
        self.numbers = self._numbers(row) if layout.is_own else {}
        if layout.is_own:
            self._check_hash(row)

    def _refuse(self, code: str, fault: str) -> None:
        if self.code is None:
            self.code, self.fault = code, fault

    def _metadata(self, row: Row, layout: EmbeddedLayout) -> dict[str, Any]:
        value = row[layout.metadata] if layout.metadata is not None else None
        given = metadata_object(value)
        if given is None and value not in (None, ""):
            self._refuse("BAD_METADATA", f"{layout.metadata} is not a JSON object")
        return dict(given or {})

    def _text(self, row: Row, layout: EmbeddedLayout) -> str:
        text = text_of(row[layout.text]) if layout.text is not None else None
        names = iter(layout.fields)
        while text is None and (name := next(names, None)) is not None:
            text = text_of(self.metadata.get(name))
            if text is not None:
                del self.metadata[name]
        if text is None:
            where = layout.text or f"{' or '.join(layout.fields)} in {layout.metadata}"
            self._refuse("MISSING_TEXT", f"there is no text ({where})")
        return text or ""

    def _vector(self, row: Row, layout: EmbeddedLayout) -> str:
        if layout.vector is None:
            return ""
        try:
            return packed(row[layout.vector])
        except BadVector as bad:
            self._refuse("BAD_VECTOR", str(bad))
            return ""

    def _numbers(self, row: Row) -> dict[str, int]:
        found: dict[str, int] = {}
        for name in ("position", "start", "end", "chunks"):
            value = row.get(name)
            if value in (None, ""):
                continue
            number = _whole(value)
            if number is None:
                self._refuse("BAD_OFFSETS", f"{name} is not a whole number")
            else:
                found[name] = number
        return found

    def _check_hash(self, row: Row) -> None:
        stated = row.get("sha256")
        if stated in (None, "") or self.code is not None:
            return
        context = None if self.context is None else self.context.encode("utf-8", "surrogatepass")
        if text_digest(self.text.encode("utf-8", "surrogatepass"), context).hex() != stated:
            self._refuse("CHANGED_TEXT", "the text is not the one that was embedded (see sha256)")


def _first(wanted: Iterable[str], names: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: object) -> int | None:
    """A number of a column of ours, which pandas may have made a float, and CSV text."""
    if isinstance(value, str) and value.isascii() and len(value) < 20:  # noqa: PLR2004
        with suppress(ValueError):
            value = float(value) if "." in value else int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= LARGEST_INT else None  # type: ignore[operator,return-value]

"""Rows with vectors into documents whose chunks bring them along, each row checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from embedfleet_producer.embedded_chunks import EmbeddedChunk
from embedfleet_producer.placeholders import PlaceholderChunk
from embedfleet_producer.readers.embedded_row import EmbeddedRow
from embedfleet_producer.readers.matrix import MatrixFile
from embedfleet_producer.validation import checked
from embedfleet_schema.exchange_errors import ModelUnstated
from embedfleet_schema.types import Chunk, Document, Rejection, Space
from embedfleet_schema.vector_checks import faults
from embedfleet_schema.visible_text import has_text

# What the rows of one document may take: they are in memory together.
MOST_BYTES = 256_000_000


@dataclass(slots=True)
class _Group:
    """The rows of one document, in the order of the file."""

    first: EmbeddedRow
    chunks: list[Chunk] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    rows: list[int | None] = field(default_factory=list)
    size: int = 0
    refused: Rejection | None = None

    def refuse(self, code: str, reason: str) -> None:
        if self.refused is None:
            self.refused = Rejection(self.first.key, code, reason, self.first.place)
            self.chunks, self.vectors = [], []


class Imports:
    """The documents of a stream of rows; rows of one key that follow each other are one document.

    A document is taken whole: if one of its rows cannot be taken, none is, and the others go on.

    Codes: BAD_VECTOR, OTHER_MODEL, MISSING_CHUNKS, TOO_LONG, and those of the reader.
    """

    def __init__(
        self, rows: Iterable[Document | Rejection], space: Space, *, vouched: bool
    ) -> None:
        """`vouched` says that a person named the model: rows need not, and their spaces may differ
        in more than the name.
        """
        self._rows = rows
        self._space = space
        self._vouched = vouched
        self._fingerprint = space.fingerprint.hex()

    def documents(self) -> Iterator[Document | Rejection]:
        """Raises ModelUnstated where nobody says what made the vectors."""
        group: _Group | None = None
        gap: Rejection | None = None
        for row in self._rows:
            if not isinstance(row, EmbeddedRow):
                if isinstance(row, Rejection):
                    gap = row
                    yield row
                continue
            if group is None or group.first.key != row.key:
                if group is not None:
                    yield self._document(group)
                group = _Group(row)
            elif gap is not None:
                group.refuse("MISSING_CHUNKS", f"a row of it cannot be read: {gap.reason}")
            gap = None
            self._add(group, row)
        if group is not None:
            yield self._document(group)

    def _add(self, group: _Group, row: EmbeddedRow) -> None:
        group.rows.append(row.row)
        if group.refused is not None:
            return
        if row.code is not None:
            group.refuse(row.code, f"{_named(row.row)}: {row.fault}")
            return
        if other := self._other_model(row):
            group.refuse("OTHER_MODEL", f"{_named(row.row)}: {other}")
            return
        if not row.vector:
            reason = "it has no vector; if that lies in a .npy file, import that file"
            group.refuse("BAD_VECTOR", f"{_named(row.row)}: {reason}")
            return
        vector = row.numbers
        if vector.shape != (self._space.dimensions,):
            wanted = self._space.dimensions
            reason = f"{vector.size} dimensions, {self._space.name} has {wanted}"
            group.refuse("BAD_VECTOR", f"{_named(row.row)}: {reason}")
            return
        text = row.text or ""
        group.size += len(text) + vector.nbytes
        if group.size > MOST_BYTES:
            group.refuse("TOO_LONG", f"its rows have more than {MOST_BYTES:,} bytes")
            return
        chunk = EmbeddedChunk(text, row.start, row.end, row.metadata, row.context, vector)
        faulty = checked(chunk)
        if isinstance(faulty, PlaceholderChunk):
            group.refuse(faulty.code, f"{_named(row.row)}: {faulty.reason}")
        elif not has_text(text):
            group.refuse("MISSING_TEXT", f"{_named(row.row)}: there is no visible text")
        else:
            group.chunks.append(chunk)
            group.vectors.append(vector)

    def _other_model(self, row: EmbeddedRow) -> str | None:
        """Why the vector of a row does not belong here, as far as the row says."""
        name = self._space.name
        if row.model is None and row.space is None:
            if self._vouched:
                return None
            raise ModelUnstated(path=row.place or "the file", example=name)
        if row.model not in (None, name):
            return f"it is of {row.model!a}, the collection of {name}"
        if self._vouched or row.space in (None, self._fingerprint):
            return None
        return (
            f"it is of {name} in another space: revision, prompts, dimensions, storage or metric "
            "differ. If the vectors are the same all the same, name the model with --model"
        )

    def _document(self, group: _Group) -> Document | Rejection:
        first = group.first
        if group.refused is None and first.chunks_of not in (None, len(group.rows)):
            reason = (
                f"{len(group.rows)} of its {first.chunks_of} rows follow each other from "
                f"{_named(first.row)} on"
            )
            group.refuse("MISSING_CHUNKS", reason)
        if group.refused is None:
            self._check_vectors(group)
        if group.refused is not None:
            return group.refused
        return Document(
            first.key, chunks=group.chunks, source=first.source, row=first.row, file=first.file
        )

    def _check_vectors(self, group: _Group) -> None:
        for wrong, what in faults(np.stack(group.vectors), self._space):
            if wrong.any():
                row = group.rows[int(np.flatnonzero(wrong)[0])]
                group.refuse("BAD_VECTOR", f"{_named(row)}: the vector {what}")
                return


def with_matrix(
    rows: Iterable[Document | Rejection], vectors: MatrixFile
) -> Iterator[Document | Rejection]:
    """Rows with the vectors that lie in a file of their own: line n has the n-th."""
    for row in rows:
        if isinstance(row, EmbeddedRow) and row.row is not None and row.row <= len(vectors):
            yield replace(row, vector=vectors[row.row - 1])
        else:
            yield row


def _named(row: int | None) -> str:
    return "the row" if row is None else f"row {row}"

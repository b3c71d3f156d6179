"""What a call of `read_paths` has to say beside its documents and rejections."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from embedfleet_producer.readers.rejections import Note

log = logging.getLogger(__name__)

# A folder may hold any number of files: what is said of them has an end.
MOST_SHAPES = 100
MOST_REMARKS = 1_000
NOTES_KEPT = 1_000
MOST_COLUMNS = 1_000
_COLUMNS_SHOWN = 8
# What stands for the column where a file is one document.
WHOLE_TEXT = "all of it"


@dataclass(slots=True)
class Shape:
    """What became text, key and metadata in one file, or in several that are alike.

    `name` is the first file, or the kind of files. `notes` say what was left out or chosen, with
    counts, once per file.
    """

    name: str
    files: int = 1
    documents: int = 0
    text: list[str] = field(default_factory=list)
    key: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def has_rows(self) -> bool:
        return self.text != [WHOLE_TEXT]

    @property
    def line(self) -> str:
        """Such as "corpus.jsonl: text <- text, key <- _id, metadata <- title, url"."""
        name = self.name if self.files == 1 else f"{self.files:,} files like {self.name}"
        shown = ", ".join(self.metadata[:_COLUMNS_SHOWN]) or "nothing"
        if len(self.metadata) > _COLUMNS_SHOWN:
            shown += f" and {len(self.metadata) - _COLUMNS_SHOWN} more"
        text, key = " or ".join(self.text), " or ".join(self.key)
        return f"{name}: text <- {text}, key <- {key}, metadata <- {shown}"


class ReadReport:
    """Filled while the stream is read; complete once all of it is.

    `shapes` say what became text, key and metadata; files that are alike are one of them, and
    `more` counts files beyond a hundred. `remarks` say what was chosen or left out in their rows.
    `left_out` counts what was passed over on purpose, by why: "hidden", "excluded", "not included",
    "link" (to what is read under its own name). `notes` are the first of `noted` in all: the text
    of a file was taken, and something beside it was not.
    """

    def __init__(self) -> None:
        self._shapes: dict[tuple[object, ...], Shape] = {}
        self.more = 0
        self.remarks: list[str] = []
        self.left_out: Counter[str] = Counter()
        self.notes: list[Note] = []
        self.noted = 0

    @property
    def shapes(self) -> list[Shape]:
        return list(self._shapes.values())

    @property
    def lines(self) -> list[str]:
        """What became of the files, in words."""
        beyond = [f"and {self.more:,} files of other shapes"] if self.more else []
        notes = [f"{note.key}: {note.reason}" for note in self.notes]
        return [*(shape.line for shape in self.shapes), *beyond, *self.remarks, *notes]

    def note(self, note: Note) -> None:
        self.noted += 1
        if len(self.notes) < NOTES_KEPT:
            self.notes.append(note)

    def add(self, shape: Shape) -> None:
        """A file that was read; one without a document is not told of."""
        room = MOST_REMARKS - len(self.remarks)
        self.remarks += [f"{shape.name}: {note}" for note in shape.notes[:room]]
        if not shape.documents:
            return
        alike = (tuple(shape.text), tuple(shape.key), tuple(shape.metadata))
        known = self._shapes.get(alike)
        if known is not None:
            known.files += shape.files
            known.documents += shape.documents
            known.notes += shape.notes[:room]
        elif len(self._shapes) < MOST_SHAPES:
            self._shapes[alike] = shape
        else:
            self.more += shape.files


class LoggedReport(ReadReport):
    """Of a call that asked for none: what was dropped is still said somewhere."""

    def note(self, note: Note) -> None:
        log.warning("%s: %s: %s", note.key, note.code, note.reason)

    def add(self, shape: Shape) -> None:
        for note in shape.notes:
            log.info("%s: %s", shape.name, note)


class Tally:
    """Counts what happens to the values of one file's rows."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}
        self._keys: dict[str, None] = {}
        self._metadata: dict[str, None] = {}
        self._counts: Counter[str] = Counter()
        self._said: dict[str, None] = {}
        self.documents = 0

    def document(self, text: str, key: str, metadata: Mapping[str, object]) -> None:
        self.documents += 1
        self._texts[text] = None
        self._keys[key] = None
        # Nearly always nothing is new.
        if not metadata.keys() <= self._metadata.keys() and len(self._metadata) < MOST_COLUMNS:
            self._metadata.update(dict.fromkeys(metadata))

    def count(self, what: str, rows: int = 1) -> None:
        """Something that is said once, with the number of rows it happened in."""
        if what in self._counts or len(self._counts) < MOST_COLUMNS:
            self._counts[what] += rows

    def count_vectors(self, column: str, rows: int = 1) -> None:
        """Vectors that are left out of the metadata."""
        self.count(f"{column} is left out, a vector of numbers; --metadata-columns keeps it", rows)

    def say(self, what: str) -> None:
        """Something that is said once."""
        if len(self._said) < MOST_COLUMNS:
            self._said[what] = None

    def shape(self, name: str) -> Shape:
        counted = [
            f"{what} ({rows:,} row{'' if rows == 1 else 's'})"
            for what, rows in self._counts.items()
        ]
        return Shape(
            name,
            documents=self.documents,
            text=list(self._texts),
            key=list(self._keys),
            metadata=list(self._metadata),
            notes=[*self._said, *counted],
        )

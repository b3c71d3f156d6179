"""What became of the files that were read: which column is the text, what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

# A folder may hold any number of files: what is said of them has an end.
MOST_SHAPES = 100
MOST_NOTES = 1_000
MOST_COLUMNS = 1_000
_COLUMNS_SHOWN = 8


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
    def line(self) -> str:
        """Such as "corpus.jsonl: text <- text, key <- _id, metadata <- title, url"."""
        name = self.name if self.files == 1 else f"{self.files:,} files like {self.name}"
        shown = ", ".join(self.metadata[:_COLUMNS_SHOWN]) or "nothing"
        if len(self.metadata) > _COLUMNS_SHOWN:
            shown += f" and {len(self.metadata) - _COLUMNS_SHOWN} more"
        text, key = " or ".join(self.text), " or ".join(self.key)
        return f"{name}: text <- {text}, key <- {key}, metadata <- {shown}"


class ReadReport:
    """Collects what `read_paths` made of files; complete once all of them are read."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[object, ...], Shape] = {}
        self.notes: list[str] = []
        self.more = 0

    @property
    def shapes(self) -> list[Shape]:
        """Files that are alike are one shape; `more` counts files beyond a hundred shapes."""
        return list(self._shapes.values())

    @property
    def lines(self) -> list[str]:
        """All of it in words."""
        beyond = [f"and {self.more:,} files of other shapes"] if self.more else []
        return [*(shape.line for shape in self.shapes), *beyond, *self.notes]

    def add(self, shape: Shape) -> None:
        """A file that was read; one without a document is not told of."""
        room = MOST_NOTES - len(self.notes)
        self.notes += [f"{shape.name}: {note}" for note in shape.notes[:room]]
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

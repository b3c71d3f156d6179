"""What a caller gives to be read, and what of it is read as one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader

from embedfleet_producer.readers.folders import Selection
from embedfleet_producer.readers.options import ReadOptions
from embedfleet_producer.scopes import whole
from embedfleet_schema.store.mirrors import Scope
from embedfleet_schema.types import Rejection


@dataclass(frozen=True, slots=True)
class Source:
    """What is read as one file, and the key that it gives its document. `origin` is where it lies.

    `former_key` is the key in another Unicode form: collections from before may hold that one.
    """

    key: str
    former_key: str | None
    origin: str

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    def open(self) -> BufferedReader:
        raise NotImplementedError

    def version(self, options: ReadOptions) -> bytes | None:  # noqa: ARG002
        """A digest of what is in it and how it is read, where that is known without reading it."""
        return None


@dataclass(frozen=True, slots=True)
class Root:
    """What the caller gave to be read; `prefix` is what it adds to the keys below it, and `origin`
    the source of what it is, or the beginning of that of what is below it.
    """

    name: str
    prefix: str
    origin: str

    # Whether there is something wrong with a folder that is empty.
    must_have_files = True

    @property
    def is_folder(self) -> bool:
        return False

    def sources(self, selection: Selection, left_out: Counter[str]) -> Iterator[Source | Rejection]:
        """Files below a folder, depth first and sorted; or the one file that the root is. A verdict
        on another entry has its path as the source.
        """
        raise NotImplementedError

    @property
    def below(self) -> str:
        """How the sources of what is below it begin."""
        return self.origin if self.origin.endswith("/") else f"{self.origin}/"

    def scope(self) -> Scope:
        """The documents that come of it."""
        return whole(self.origin, self.below)

    def inside(self, source: str) -> tuple[str, ...]:
        """The names that lead to a source of the scope; none if the root is that itself."""
        return tuple(filter(None, source.removeprefix(self.origin).split("/")))


@dataclass(frozen=True, slots=True)
class StandardInput(Root):
    """It comes once."""

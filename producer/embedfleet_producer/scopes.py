"""Which documents of a collection a stream can miss: what a mirror may delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from embedfleet_schema.store.mirrors import Scope


@dataclass(frozen=True, slots=True)
class Part:
    """A source that a stream reads. `would_read` tells by the source of a document that is missed
    whether it would have come, if it were still there.
    """

    scope: Scope
    would_read: Callable[[str], bool]


@runtime_checkable
class TellsParts(Protocol):
    """A stream that knows which sources it reads."""

    @property
    def named(self) -> str | None:
        """The source of all documents, if it was named."""

    def parts(self) -> list[Part] | None:
        """Which documents can be missed after the reading; None where nobody can tell."""

    def obstacle(self, *, named: bool) -> str | None:
        """What was not read, so that it is unknown which documents are still there."""


def whole(source: str, below: str | None = None) -> Scope:
    """All documents of a source, and of what is below it."""
    read_below: Sequence[str] = () if below is None else (below,)
    return Scope(source, below, (source,), read_below)


def named(source: str) -> Part:
    """Documents of a source that has a name."""
    return Part(whole(source), lambda _: True)

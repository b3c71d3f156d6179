"""The caller's documents, read one by one: what goes wrong in there is the caller's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, Callable, Generator, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

from embedfleet_schema.database import Database
from embedfleet_schema.driver_errors import callers_own
from embedfleet_schema.errors import NotDocuments
from embedfleet_schema.store import objects
from embedfleet_schema.store.incoming import ObjectRead
from embedfleet_schema.types import CollectionInfo, Document, Rejection

_END = object()
_ITEMS = Document | Rejection | ObjectRead
# Of objects with digests of their versions, how many documents each has that is known.
Known = Callable[[Mapping[str, bytes]], Mapping[str, int]]


@runtime_checkable
class TellsEnds(Protocol):
    """A stream that knows when it has read one of its sources to the end."""

    def take_ended(self) -> list[str]:
        """The sources that were read to their end since this was asked last, or first."""

    def close(self) -> None:
        """Read no more."""


@runtime_checkable
class ReadsObjects(Protocol):
    """A stream that may read objects of a store, and leaves out what is known."""

    @property
    def named(self) -> str | None:
        """The source of all documents, if it was named."""

    def ask(self, known: Known) -> None:
        """From now on objects that are known are not read; what is read of others is told."""


def known_objects(
    db: Database, collection: CollectionInfo, stream: object, source: str | None
) -> Known | None:
    """Which objects of a stream need not be read; None where it reads none. `source` is that of all
    documents.
    """
    if not isinstance(stream, ReadsObjects):
        return None
    return partial(objects.unchanged, db, collection, named=source or stream.named)


class Source(Iterator[Document | Rejection | ObjectRead]):
    """The documents of one call, which can be told to stop. With a `name`, that is their source.

    The first one is read at once: a call that hands over something else is refused before a job is
    made. What is no document further on gets a verdict of its own.

    Raises:
        NotDocuments: these are no documents.
    """

    def __init__(
        self,
        documents: object,
        stopping: threading.Event | None = None,
        known: Known | None = None,
        name: str | None = None,
    ) -> None:
        self._documents = _opened(documents)
        self._name = name
        if known is not None and isinstance(self._documents, ReadsObjects):
            self._documents.ask(known)
        self._stopping = stopping or threading.Event()
        # From now on it is kept what ends.
        self.take_ended()
        self._ahead = [self._read()]
        if self._ahead[0] is not _END and not isinstance(self._ahead[0], _ITEMS):
            self.close()
            raise NotDocuments(given=f"{_kind(documents)} of {_kind(self._ahead[0])}")

    def __next__(self) -> Document | Rejection | ObjectRead:
        item = self._ahead.pop() if self._ahead else self._read()
        if item is _END:
            raise StopIteration
        if self._name is not None and isinstance(item, Document):
            return replace(item, source=self._name, file=item.place)
        if self._name is not None and isinstance(item, ObjectRead):
            return item._replace(named=self._name)
        return item  # type: ignore[return-value]

    @property
    def tells_ends(self) -> bool:
        return isinstance(self._documents, TellsEnds)

    def take_ended(self) -> list[str]:
        """What the caller's stream tells, if it tells any."""
        return self._documents.take_ended() if isinstance(self._documents, TellsEnds) else []

    def close(self) -> None:
        """Close a generator that is left before its end."""
        if isinstance(self._documents, Generator | TellsEnds):
            self._documents.close()

    def _read(self) -> object:
        if self._stopping.is_set():
            raise asyncio.CancelledError
        try:
            item = next(self._documents, _END)
        except Exception as error:
            callers_own(error)
            raise
        if self._stopping.is_set():
            raise asyncio.CancelledError
        return item


def _opened(documents: object) -> Iterator[object]:
    if isinstance(documents, AsyncIterable):
        raise NotDocuments(given=f"an asynchronous {_kind(documents)}, which aenqueue takes")
    if isinstance(documents, str | bytes | bytearray | Path | Mapping | Document | Rejection):
        raise NotDocuments(given=f"a {_kind(documents)}")
    try:
        return iter(documents)  # type: ignore[call-overload, no-any-return]
    except TypeError:
        raise NotDocuments(given=f"a {_kind(documents)}") from None


def _kind(value: object) -> str:
    return type(value).__name__

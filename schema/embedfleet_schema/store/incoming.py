"""A producer's window as the tables take it: documents, chunks, verdicts, vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedfleet_schema.errors import HashCollision
from embedfleet_schema.store.registry import Text


class DocumentRow(NamedTuple):
    """A new document, or a new version of one."""

    key: str
    digest: bytes
    source: str | None


class ChunkRow(NamedTuple):
    """A chunk of such a document, with its text; its metadata as JSON."""

    key: str
    position: int
    start_offset: int | None
    end_offset: int | None
    tokens: int
    hash: bytes
    content: str
    metadata: str
    context: str | None = None


class VerdictRow(NamedTuple):
    """The verdict on a document that was not accepted, in words that PostgreSQL can hold."""

    key: str
    code: str
    reason: str
    source: str | None


class ObjectRead(NamedTuple):
    """What a stream has read of an object of a store: the keys of the documents that came before,
    whose source is the object or what is `named`. At its end, its version and how many documents
    it has. Where `is_kept`, it was not read again, because this version of it is stored.
    """

    source: str
    named: str | None
    keys: list[str]
    documents: int
    version: bytes | None = None
    is_kept: bool = False


class TextFailure(NamedTuple):
    """Why a text is not given to any worker: the model could not do it justice."""

    code: str
    reason: str


@dataclass(slots=True)
class Incoming:
    """A window as the tables take it.

    `keys` are all that were accepted, and `kept` those of unchanged documents; `unchanged` counts
    these and what kept `objects` have. `failures` are the texts, by hash, that fail at once.
    `waiting` are the unchanged documents that readers do not see yet: what they miss is queued
    again, because the batch that had it may be cancelled. Of what was `rejected`, all is counted,
    and `verdicts` are stored. `sources` are those of unchanged documents, by key, that are to be
    written. With `replace`, documents of other sources are taken over. `vectors` are those that
    texts bring along, by hash, float32 of shape (dimensions,) and checked: nobody embeds them.

    What was made from stored chunks says the `versions` of its documents, by key: it is stored if
    they are the newest still. The digests of `outdated` documents are forgotten: when they come
    again, they have changed.
    """

    keys: list[str] = field(default_factory=list)
    documents: list[DocumentRow] = field(default_factory=list)
    chunks: list[ChunkRow] = field(default_factory=list)
    failures: dict[bytes, TextFailure] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    unchanged: int = 0
    rejected: int = 0
    verdicts: list[VerdictRow] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    replace: bool = False
    vectors: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    outdated: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    objects: list[ObjectRead] = field(default_factory=list)

    def texts(self) -> dict[bytes, Text]:
        """The distinct texts of its chunks, by hash.

        Raises:
            HashCollision: two of them have the same hash.
        """
        found: dict[bytes, Text] = {}
        for chunk in self.chunks:
            text = found.get(chunk.hash)
            if text is None:
                found[chunk.hash] = Text(chunk.tokens, chunk.content, chunk.key, chunk.context)
            elif (text.content, text.context) != (chunk.content, chunk.context):
                raise HashCollision(keys=f"{text.key!r}, {chunk.key!r}")
        return found

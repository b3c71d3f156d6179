"""Validated documents into rows: which changed, how they are cut, what each chunk's address is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from embedfleet_producer.chunking import Chunker, PreparedChunk
from embedfleet_producer.duplicate_keys import duplicate, is_taken, taken
from embedfleet_producer.embedded_chunks import EmbeddedChunk
from embedfleet_producer.existing import ExistingDocument
from embedfleet_producer.marks import in_force, marks_of
from embedfleet_producer.placeholders import PlaceholderChunk
from embedfleet_producer.validation import Validated
from embedfleet_producer.windows import Window
from embedfleet_schema.store.incoming import ChunkRow, DocumentRow, Incoming, TextFailure
from embedfleet_schema.types import Document, Rejection, text_hash
from embedfleet_schema.unreadable import UNREADABLE_SHARE

# Verdicts that a call returns; all of them are in `failures`, and memory stays flat.
REJECTIONS_RETURNED = 1_000


@dataclass(slots=True)
class Prepared:
    """A window ready to be stored, with the verdicts on what is not, in the caller's own words."""

    incoming: Incoming
    rejected: list[Rejection]


def keep_some(returned: list[Rejection], rejected: Sequence[Rejection]) -> None:
    """Take verdicts into those that a call returns, as long as there is room."""
    returned.extend(rejected[: REJECTIONS_RETURNED - len(returned)])


def prepare(
    window: Window,
    known: Mapping[str, ExistingDocument],
    chunker: Chunker,
    *,
    job_id: int,
    replace_others: bool = False,
) -> Prepared:
    """What of a window has to be stored, given what the collection knows under its keys.

    With `replace_others`, documents of other sources are replaced too.
    """
    incoming = Incoming(keys=list(window.accepted), replace=replace_others)
    rejected = list(window.rejected)
    changed: list[Validated] = []
    for key, validated in window.accepted.items():
        former = known.get(key)
        if former is not None and former.digest == validated.digest:
            _keep(incoming, validated.document, former)
        elif verdict := _conflict(
            validated.document, former, job_id, replace_others=replace_others
        ):
            rejected.append(verdict)
        else:
            changed.append(validated)
    for validated, chunks in zip(changed, _cut(changed, chunker), strict=True):
        document = validated.document
        if not chunks:
            reason = "no visible text is left after cutting"
            rejected.append(Rejection(document.key, "EMPTY", reason, document.place))
            continue
        _take(incoming, validated, chunks, chunker)
    incoming.rejected = len(rejected)
    return Prepared(incoming, rejected)


def _keep(incoming: Incoming, document: Document, former: ExistingDocument) -> None:
    """Count a document that is as it was, and note the source that nobody had named."""
    incoming.unchanged += 1
    if not former.live:
        incoming.waiting.append(document.key)
        for chunk in document.chunks or ():
            if isinstance(chunk, EmbeddedChunk):
                incoming.vectors[text_hash(chunk.content)] = chunk.vector
    adopts = former.source is None or (incoming.replace and is_taken(document, former))
    if adopts and document.source is not None:
        incoming.sources[document.key] = document.source


def _conflict(
    document: Document, former: ExistingDocument | None, job_id: int, *, replace_others: bool
) -> Rejection | None:
    """Why a document is no new version of the one that is known under its key."""
    if former is None:
        return None
    if former.job_id == job_id:
        return duplicate(document, former)
    return taken(document, former) if is_taken(document, former) and not replace_others else None


def _cut(documents: Sequence[Validated], chunker: Chunker) -> list[list[PreparedChunk]]:
    """The chunks of each document. All plain texts are tokenized in one call, all ready in one."""
    cut: dict[int, list[PreparedChunk]] = {}
    ready = {
        index: validated.document.chunks
        for index, validated in enumerate(documents)
        if validated.document.chunks is not None
    }
    plain = [index for index in range(len(documents)) if index not in ready]
    texts = [documents[index].document.text or "" for index in plain]
    modes = [documents[index].document.mode for index in plain]
    cut.update(zip(plain, chunker.chunk_many(texts, modes), strict=True))
    cut.update(zip(ready, chunker.prepare(list(ready.values())), strict=True))
    return [cut[index] for index in range(len(documents))]


def _take(
    incoming: Incoming, validated: Validated, chunks: Sequence[PreparedChunk], chunker: Chunker
) -> None:
    """A document and its chunks, each with the document's metadata, over it that of marks, over
    it its own.
    """
    document = validated.document
    key, whole = document.key, _json(validated.metadata)
    marks = marks_of(document, chunker.mode)
    parts = in_force(marks, [each.chunk.start for each in chunks]) if marks else []
    incoming.documents.append(DocumentRow(key, validated.digest, document.source))
    for position, prepared in enumerate(chunks):
        chunk, tokens = prepared.chunk, prepared.tokens
        start, end, content = chunk.start, chunk.end, chunk.content
        hash_ = chunk.hash if isinstance(chunk, PlaceholderChunk) else text_hash(content)
        own = {**parts[position], **chunk.metadata} if parts else chunk.metadata
        metadata = _over(document.metadata, own) if own else whole
        incoming.chunks.append(
            ChunkRow(key, position, start, end, tokens, hash_, content, metadata)
        )
        if isinstance(chunk, EmbeddedChunk):
            incoming.vectors[hash_] = chunk.vector
        elif failure := _failure(prepared, chunker.limit):
            incoming.failures[hash_] = failure


def _failure(prepared: PreparedChunk, limit: int) -> TextFailure | None:
    """Why no worker needs to try this text; its neighbours are embedded."""
    chunk, tokens = prepared.chunk, prepared.tokens
    if isinstance(chunk, PlaceholderChunk):
        return TextFailure(chunk.code, chunk.reason)
    if tokens > limit:
        # The model would cut it off in silence, and part of it could never be found.
        return TextFailure("TOO_LONG", f"it has {tokens:,} tokens, the model takes {limit:,}")
    if prepared.unread >= UNREADABLE_SHARE:
        reason = (
            f"the model's tokenizer does not know {prepared.unread:.0%} of it, and all such texts "
            "would get the same vector: use a model for this language or script"
        )
        return TextFailure("UNREADABLE_BY_MODEL", reason)
    return None


def _over(document: Mapping[str, Any], own: Mapping[str, Any]) -> Jsonb:
    return _json(json.dumps({**document, **own}, allow_nan=False, ensure_ascii=False))


def _json(text: str) -> Jsonb:
    """JSON that is written already; psycopg would write it once more."""
    return Jsonb(text, dumps=_as_it_is)


def _as_it_is(text: str) -> str:
    return text

"""Validated documents into rows: which changed, how they are cut, what each chunk's address is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embedfleet_producer.chunking import Chunker, Cut, PreparedChunk
from embedfleet_producer.contexts import SHARE_OF_CONTEXT, ContextFunction, Contexts
from embedfleet_producer.duplicate_keys import duplicate, is_taken, taken
from embedfleet_producer.embedded_chunks import EmbeddedChunk
from embedfleet_producer.existing import ExistingDocument
from embedfleet_producer.marks import in_force, marks_of
from embedfleet_producer.placeholders import PlaceholderChunk
from embedfleet_producer.validation import Validated
from embedfleet_producer.windows import Window
from embedfleet_schema.embedded_text import text_hash
from embedfleet_schema.store.incoming import ChunkRow, DocumentRow, Incoming, TextFailure
from embedfleet_schema.types import Chunk, ChunkMode, Document, Rejection
from embedfleet_schema.unreadable import UNREADABLE_SHARE

# Verdicts that a call returns; all of them are in `failures`, and memory stays flat.
REJECTIONS_RETURNED = 1_000
_NO_METADATA: Mapping[str, Any] = {}


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
    job_id: int | None,
    replace_others: bool = False,
    context: ContextFunction | None = None,
) -> Prepared:
    """What of a window has to be stored, given what the collection knows under its keys.

    A document that the same job stored with another digest comes a second time, which is refused;
    not so where no `job_id` is given. With `replace_others`, documents of other sources are
    replaced too. `context` says what is embedded with the chunks of documents that changed.
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
    cut: Sequence[Sequence[Cut | PreparedChunk] | Rejection]
    if chunker.template or context is not None:
        cut = Contexts(chunker, context).pieces(changed, window.contexts)
    else:
        cut = _cut(changed, chunker)
    for validated, pieces in zip(changed, cut, strict=True):
        document = validated.document
        if isinstance(pieces, Rejection):
            rejected.append(pieces)
            continue
        if not pieces:
            reason = "no visible text is left after cutting"
            rejected.append(Rejection(document.key, "EMPTY", reason, document.place))
            continue
        _take(incoming, validated, pieces, chunker)
    incoming.rejected = len(rejected)
    incoming.objects = window.objects
    incoming.unchanged += sum(each.documents for each in window.objects if each.is_kept)
    return Prepared(incoming, rejected)


def _keep(incoming: Incoming, document: Document, former: ExistingDocument) -> None:
    """Count a document that is as it was, and note the source that nobody had named."""
    incoming.unchanged += 1
    incoming.kept.append(document.key)
    if not former.live:
        incoming.waiting.append(document.key)
        for chunk in document.chunks or ():
            if isinstance(chunk, EmbeddedChunk):
                incoming.vectors[text_hash(chunk.content, chunk.context)] = chunk.vector
    adopts = former.source is None or (incoming.replace and is_taken(document, former))
    if adopts and document.source is not None:
        incoming.sources[document.key] = document.source


def _conflict(
    document: Document,
    former: ExistingDocument | None,
    job_id: int | None,
    *,
    replace_others: bool,
) -> Rejection | None:
    """Why a document is no new version of the one that is known under its key."""
    if former is None:
        return None
    if job_id is not None and former.job_id == job_id:
        return duplicate(document, former)
    return taken(document, former) if is_taken(document, former) and not replace_others else None


def _cut(documents: Sequence[Validated], chunker: Chunker) -> list[Sequence[Cut | PreparedChunk]]:
    """The pieces of each document. All plain texts are tokenized in one call, all ready in one."""
    texts: list[str] = []
    modes: list[ChunkMode] = []
    ready: list[Sequence[str | Chunk]] = []
    for validated in documents:
        document = validated.document
        if document.chunks is None:
            texts.append(document.text or "")
            modes.append(document.mode or chunker.mode)
        else:
            ready.append(document.chunks)
    cuts, prepared = iter(chunker.cuts(texts, modes)), iter(chunker.prepare(ready))
    return [
        next(cuts) if validated.document.chunks is None else next(prepared)
        for validated in documents
    ]


def _take(
    incoming: Incoming,
    validated: Validated,
    pieces: Sequence[Cut | PreparedChunk],
    chunker: Chunker,
) -> None:
    """A document and its chunks, each with the document's metadata, over it that of marks, over
    it its own.
    """
    document = validated.document
    key, text, whole = document.key, document.text or "", validated.metadata
    marks = marks_of(document, chunker.mode)
    parts: Sequence[Mapping[str, Any]] = ()
    if marks:
        starts = (
            each.chunk.start if isinstance(each, PreparedChunk) else each[0] for each in pieces
        )
        parts = in_force(marks, list(starts))
    limit, most = chunker.limit, chunker.limit // SHARE_OF_CONTEXT
    incoming.documents.append(DocumentRow(key, validated.digest, document.source))
    for position, piece in enumerate(pieces):
        own: Mapping[str, Any] = parts[position] if parts else _NO_METADATA
        failure = None
        if isinstance(piece, PreparedChunk):
            chunk, tokens, unread, before = piece
            start, end, content = chunk.start, chunk.end, chunk.content
            context = chunk.context or None
            own = {**own, **chunk.metadata} if own else chunk.metadata
        else:
            # Most of all there are: no object is made that is not stored.
            start, end, tokens, unread = piece
            chunk, content, context, before = None, text[start:end], None, 0
        if isinstance(chunk, PlaceholderChunk):
            hash_, failure = chunk.hash, TextFailure(chunk.code, chunk.reason)
        else:
            hash_ = text_hash(content, context)
            if tokens > limit or unread >= UNREADABLE_SHARE or before > most:
                failure = unfit(tokens, unread, before, limit)
        metadata = _over(document.metadata, own) if own else whole
        incoming.chunks.append(
            ChunkRow(key, position, start, end, tokens, hash_, content, metadata, context)
        )
        if isinstance(chunk, EmbeddedChunk):
            incoming.vectors[hash_] = chunk.vector
        elif failure:
            incoming.failures[hash_] = failure


def unfit(tokens: int, unread: float, before: int, limit: int) -> TextFailure | None:
    """Why no worker needs to try this text, if so; its neighbours are embedded. `before` are the
    tokens of its context.
    """
    if before > limit // SHARE_OF_CONTEXT:
        reason = (
            f"its context has {before:,} tokens, more than half of the {limit:,} that the model "
            "takes"
        )
        return TextFailure("CONTEXT_TOO_LONG", reason)
    if tokens > limit:
        # The model would cut it off in silence, and part of it could never be found.
        own = f", {before:,} of them in its context" if before else ""
        return TextFailure("TOO_LONG", f"it has {tokens:,} tokens{own}, the model takes {limit:,}")
    if unread < UNREADABLE_SHARE:
        return None
    reason = (
        f"the model's tokenizer does not know {unread:.0%} of it, and all such texts "
        "would get the same vector: use a model for this language or script"
    )
    return TextFailure("UNREADABLE_BY_MODEL", reason)


def _over(document: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    return json.dumps({**document, **own}, allow_nan=False, ensure_ascii=False)

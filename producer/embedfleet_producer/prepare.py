"""Judged documents into rows: which changed, how they are cut, what each chunk's address is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from psycopg.types.json import Jsonb

from embedfleet_producer.chunking import Chunker, ChunkFunction, PreparedChunk
from embedfleet_producer.judge import Judged, judge, printable
from embedfleet_producer.merge import ChunkRow, Known, Prepared
from embedfleet_producer.origins import duplicate, is_taken, taken
from embedfleet_producer.windows import Window
from embedfleet_schema.types import Chunk, Document, Rejection, text_sha256


def prepare(
    window: Window,
    known: Mapping[str, Known],
    chunker: Chunker,
    *,
    function: ChunkFunction | None,
    job_id: int,
    replace_others: bool = False,
) -> Prepared:
    """What of a window has to be stored, given what the collection knows under its keys.

    With `replace_others`, documents of other sources are replaced too.
    """
    prepared = Prepared(
        keys=list(window.accepted), rejected=list(window.rejected), replace=replace_others
    )
    changed: list[Judged] = []
    for key, judged in window.accepted.items():
        former = known.get(key)
        if former is not None and former.digest == judged.digest:
            _keep(prepared, judged.document, former)
        elif verdict := _conflict(judged.document, former, job_id, replace_others=replace_others):
            prepared.rejected.append(verdict)
        else:
            changed.append(judged)
    for judged, chunks in zip(changed, _cut(changed, chunker, function), strict=True):
        verdict = _unusable(judged.document.key, chunks, chunker.limit)
        if verdict is not None:
            prepared.rejected.append(verdict)
        elif not isinstance(chunks, Rejection):
            prepared.changed.append(judged)
            prepared.chunks.extend(_rows(judged, chunks))
    return prepared


def _keep(prepared: Prepared, document: Document, former: Known) -> None:
    """Count a document that is as it was, and note the source that nobody had named."""
    prepared.unchanged += 1
    if not former.live:
        prepared.waiting.append(document.key)
    adopts = former.source is None or (prepared.replace and is_taken(document, former))
    if adopts and document.source is not None:
        prepared.sources[document.key] = document.source


def _conflict(
    document: Document, former: Known | None, job_id: int, *, replace_others: bool
) -> Rejection | None:
    """Why a document is no new version of the one that is known under its key."""
    if former is None:
        return None
    if former.job_id == job_id:
        return duplicate(document, former)
    return taken(document, former) if is_taken(document, former) and not replace_others else None


Cut = list[PreparedChunk] | Rejection


def _cut(
    documents: Sequence[Judged], chunker: Chunker, function: ChunkFunction | None
) -> list[Cut]:
    """The chunks of each document. All plain texts are tokenized in one call, all ready in one."""
    cut: dict[int, Cut] = {}
    ready: dict[int, list[Chunk]] = {}
    plain: list[int] = []
    for index, judged in enumerate(documents):
        document = judged.document
        if document.chunks is not None:
            ready[index] = chunker.ready_made(document.chunks)
        elif function is None:
            plain.append(index)
        elif isinstance(chunks := _by_function(judged, chunker, function), Rejection):
            cut[index] = chunks
        else:
            ready[index] = chunks
    texts = [documents[index].document.text or "" for index in plain]
    modes = [documents[index].document.mode for index in plain]
    cut.update(zip(plain, chunker.chunk_many(texts, modes), strict=True))
    cut.update(zip(ready, chunker.prepare(list(ready.values())), strict=True))
    return [cut[index] for index in range(len(documents))]


def _by_function(
    judged: Judged, chunker: Chunker, function: ChunkFunction
) -> list[Chunk] | Rejection:
    document = judged.document
    try:
        chunks = chunker.chunk_with(function, document.text or "")
    except Exception as error:  # noqa: BLE001 - the user's code; it fails this document alone
        reason = printable(f"the chunk function raised {error!r}")
        return Rejection(document.key, "CHUNKER_FAILED", reason)
    # What a function makes is judged like what a caller brings.
    verdict = judge(replace(document, text=None, chunks=chunks), max_bytes=max(4 * judged.size, 1))
    return verdict if isinstance(verdict, Rejection) else chunks


def _unusable(key: str, chunks: Cut, limit: int) -> Rejection | None:
    """Why a document cannot be taken although its text is good."""
    if isinstance(chunks, Rejection):
        return chunks
    if not chunks:
        return Rejection(key, "EMPTY", "no visible text is left after cutting")
    for position, chunk in enumerate(chunks):
        if chunk.tokens > limit:
            # The model would cut it off in silence, and part of it could never be found.
            reason = f"chunk {position} has {chunk.tokens} tokens, the model takes {limit}"
            return Rejection(key, "TOO_LONG", reason)
    return None


def _rows(judged: Judged, chunks: Sequence[PreparedChunk]) -> list[ChunkRow]:
    whole = _json(judged.metadata)
    rows: list[ChunkRow] = []
    for position, prepared in enumerate(chunks):
        chunk = prepared.chunk
        rows.append(
            (
                judged.document.key,
                position,
                chunk.start,
                chunk.end,
                prepared.tokens,
                text_sha256(chunk.content),
                chunk.content,
                _merged(judged, chunk) if chunk.metadata else whole,
            )
        )
    return rows


def _merged(judged: Judged, chunk: Chunk) -> Jsonb:
    """The chunk's own metadata over the document's."""
    both = {**judged.document.metadata, **chunk.metadata}
    return _json(json.dumps(both, allow_nan=False, ensure_ascii=False))


def _json(text: str) -> Jsonb:
    """JSON that is written already; psycopg would write it once more."""
    return Jsonb(text, dumps=_as_it_is)


def _as_it_is(text: str) -> str:
    return text

"""Judged documents into rows: which changed, how they are cut, what each chunk's address is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg.types.json import Jsonb

from embedfleet_producer.chunking import Chunker, ChunkFunction, PreparedChunk, chunk_with
from embedfleet_producer.judge import Judged, has_text
from embedfleet_producer.merge import ChunkRow, Known, Prepared
from embedfleet_producer.tokens import TokenCounter
from embedfleet_producer.windows import Window, duplicate
from embedfleet_schema.types import Chunk, ChunkMode, Rejection, text_sha256


@dataclass(frozen=True, slots=True)
class Cutter:
    """How documents of a collection become chunks: its own chunker, or a function of the user's."""

    chunker: Chunker
    counter: TokenCounter
    mode: ChunkMode
    function: ChunkFunction | None = None

    def cut(self, judged: Sequence[Judged]) -> list[list[PreparedChunk] | Rejection]:
        """The chunks of each document, or why it has none. One call of the tokenizer for all."""
        cut: list[list[PreparedChunk] | Rejection] = [[] for _ in judged]
        plain: list[int] = []
        for index, each in enumerate(judged):
            document = each.document
            if document.chunks is not None:
                cut[index] = self._counted(
                    document.key, [_chunk(given) for given in document.chunks]
                )
            elif self.function is not None:
                cut[index] = self._by_function(document.key, document.text or "", self.function)
            else:
                plain.append(index)
        documents = [judged[index].document for index in plain]
        texts = [document.text or "" for document in documents]
        modes = [document.mode or self.mode for document in documents]
        for index, chunks in zip(plain, self.chunker.chunk_many(texts, modes), strict=True):
            cut[index] = chunks
        return cut

    def _by_function(
        self, key: str, text: str, function: ChunkFunction
    ) -> list[PreparedChunk] | Rejection:
        try:
            chunks = [chunk for chunk in chunk_with(function, text) if has_text(chunk.content)]
        except Exception as error:  # noqa: BLE001 - the user's code; it fails this document alone
            return Rejection(key, "CHUNKER_FAILED", f"the chunk function raised {error!r}")
        if not chunks:
            return Rejection(key, "EMPTY", "the chunk function gave no visible text")
        return self._counted(key, chunks)

    def _counted(self, key: str, chunks: Sequence[Chunk]) -> list[PreparedChunk] | Rejection:
        """Ready-made chunks with their tokens; the model would cut a longer one off in silence."""
        tokens = self.counter.count([chunk.content for chunk in chunks])
        limit = self.chunker.limit
        for position, count in enumerate(tokens):
            if count > limit:
                reason = f"chunk {position} has {count} tokens, the model takes {limit}"
                return Rejection(key, "TOO_LONG", reason)
        return [PreparedChunk(chunk, count) for chunk, count in zip(chunks, tokens, strict=True)]


def prepare(window: Window, known: Mapping[str, Known], cutter: Cutter, *, job_id: int) -> Prepared:
    """What of a window has to be stored, given what the collection knows under its keys."""
    prepared = Prepared(keys=list(window.accepted), rejected=list(window.rejected))
    changed: list[Judged] = []
    for key, judged in window.accepted.items():
        former = known.get(key)
        if former is None or former.digest != judged.digest:
            if former is not None and former.job_id == job_id:
                prepared.rejected.append(duplicate(key))
            else:
                changed.append(judged)
            continue
        prepared.unchanged += 1
        if not former.live:
            prepared.waiting.append(key)
    for judged, chunks in zip(changed, cutter.cut(changed), strict=True):
        if isinstance(chunks, Rejection):
            prepared.rejected.append(chunks)
        else:
            prepared.changed.append(judged)
            prepared.chunks.extend(_rows(judged, chunks))
    return prepared


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


def _chunk(given: str | Chunk) -> Chunk:
    return given if isinstance(given, Chunk) else Chunk(given)

"""The contexts of chunks: what the template says, or a function of the caller's."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import replace

from embedfleet_producer.chunking import Chunker, PreparedChunk
from embedfleet_producer.context_fault import context_fault
from embedfleet_producer.embedded_chunks import EmbeddedChunk
from embedfleet_producer.marks import in_force, marks_of
from embedfleet_producer.placeholders import PlaceholderChunk
from embedfleet_producer.printable import printable, shown
from embedfleet_producer.ready_made import as_chunks
from embedfleet_producer.validation import Validated
from embedfleet_schema.types import Chunk, Document, Rejection

# Asked for each new or changed document, with its chunks; says the context of each. None leaves a
# chunk the one that it has.
ContextFunction = Callable[[Document, Sequence[Chunk]], Sequence[str | None]]

# Of a chunk's size, what texts leave free for contexts that are not made yet.
_SHARE_OF_FUNCTION = 4
# The most that a context may take of a chunk.
SHARE_OF_CONTEXT = 2


class Contexts:
    """Cuts documents into chunks that have a context; what is embedded of each fits.

    A text is cut to leave room for the longest context that its chunks may have. One whose context
    takes more than half of a chunk is rejected: CONTEXT_TOO_LONG; so is one for which the function
    fails: CONTEXT_FAILED.
    """

    def __init__(self, chunker: Chunker, function: ContextFunction | None) -> None:
        self._chunker = chunker
        self._function = function

    def pieces(
        self,
        documents: Sequence[Validated],
        said: MutableMapping[tuple[str, ...], Sequence[str | None]],
    ) -> list[Sequence[PreparedChunk] | Rejection]:
        """The chunks of each document. `said` is what the function said already, by key
        and contents: another template cuts in another way.
        """
        given = [each.document for each in documents]
        found: list[Sequence[Chunk] | Rejection] = [
            self._templated(document) if document.text is None else () for document in given
        ]
        texts = [n for n, document in enumerate(given) if document.text is not None]
        for n, chunks in zip(texts, self._cut([given[n] for n in texts]), strict=True):
            found[n] = chunks
        if self._function is not None:
            for n, document in enumerate(given):
                found[n] = self._asked(self._function, document, found[n], said)
        return self._prepared(given, found)

    def _cut(self, documents: Sequence[Document]) -> list[list[Chunk]]:
        """Texts cut, each chunk with what the template says of the place where it starts."""
        chunker = self._chunker
        places = [self._places(document) for document in documents]
        tokens = chunker.context_tokens(
            context for _, contexts in places for context in contexts if context
        )
        reserved = [
            self._reserved([tokens[context] for context in contexts if context])
            for _, contexts in places
        ]
        texts = [document.text or "" for document in documents]
        modes = [document.mode or chunker.mode for document in documents]
        return [
            [
                Chunk(text[a:b], a, b, context=contexts[bisect_right(starts, a) - 1])
                for a, b, *_ in cuts
            ]
            for text, cuts, (starts, contexts) in zip(
                texts, chunker.cuts(texts, modes, reserved), places, strict=True
            )
        ]

    def _places(self, document: Document) -> tuple[list[int], list[str | None]]:
        """Where another context begins in a text, and that context."""
        marks = marks_of(document, self._chunker.mode)
        starts = sorted({0, *(mark.start for mark in marks)})
        said = self._chunker.template.context
        return starts, [
            said(document.key, {**document.metadata, **carried})
            for carried in in_force(marks, starts)
        ]

    def _reserved(self, tokens: Sequence[int]) -> int:
        """What chunks leave free of their size; longer contexts are refused."""
        size = self._chunker.size
        asked = 0 if self._function is None else size // _SHARE_OF_FUNCTION
        return min(max([asked, *tokens]), size // SHARE_OF_CONTEXT)

    def _templated(self, document: Document) -> list[Chunk]:
        """Ready-made chunks, those without a context with what the template says."""
        said = self._chunker.template.context
        return [
            chunk
            if chunk.context is not None or isinstance(chunk, EmbeddedChunk | PlaceholderChunk)
            else replace(chunk, context=said(document.key, {**document.metadata, **chunk.metadata}))
            for chunk in as_chunks(document.chunks or ())
        ]

    def _asked(
        self,
        function: ContextFunction,
        document: Document,
        chunks: Sequence[Chunk] | Rejection,
        said: MutableMapping[tuple[str, ...], Sequence[str | None]],
    ) -> Sequence[Chunk] | Rejection:
        if isinstance(chunks, Rejection):
            return chunks
        asked = (document.key, *(chunk.content for chunk in chunks))
        contexts = said.get(asked)
        if contexts is None:
            try:
                contexts = _checked(function(document, tuple(chunks)), len(chunks))
            except Exception as error:  # noqa: BLE001 - the user's code; it fails this document alone
                reason = printable(f"the context function failed: {shown(error)}")
                return Rejection(document.key, "CONTEXT_FAILED", reason, document.place)
            said[asked] = contexts
        return [
            chunk
            if context is None or isinstance(chunk, EmbeddedChunk | PlaceholderChunk)
            else replace(chunk, context=context)
            for chunk, context in zip(chunks, contexts, strict=True)
        ]

    def _prepared(
        self, documents: Sequence[Document], found: Sequence[Sequence[Chunk] | Rejection]
    ) -> list[Sequence[PreparedChunk] | Rejection]:
        given = [each for each in found if not isinstance(each, Rejection)]
        # What was cut here has no length of its own: it is cut further, if its context is long.
        how = [
            self._chunker.too_long if document.text is None else "split"
            for document, each in zip(documents, found, strict=True)
            if not isinstance(each, Rejection)
        ]
        prepared = iter(self._chunker.prepare(given, how))
        return [
            each if isinstance(each, Rejection) else self._judged(document, next(prepared))
            for document, each in zip(documents, found, strict=True)
        ]

    def _judged(
        self, document: Document, pieces: Sequence[PreparedChunk]
    ) -> Sequence[PreparedChunk] | Rejection:
        """Of ready-made chunks, each gets a verdict of its own later."""
        size = self._chunker.size
        longest = max((piece.before for piece in pieces), default=0)
        if document.text is None or longest <= size // SHARE_OF_CONTEXT:
            return pieces
        reason = (
            f"a context has {longest:,} tokens, more than half of the chunk size {size:,}: shorten "
            "the template or its fields, or use larger chunks"
        )
        return Rejection(document.key, "CONTEXT_TOO_LONG", reason, document.place)


def _checked(contexts: object, count: int) -> Sequence[str | None]:
    if isinstance(contexts, str) or not isinstance(contexts, Sequence):
        raise TypeError(f"it gives a list of contexts, not {type(contexts).__name__}")
    if len(contexts) != count:
        raise ValueError(f"it gave {len(contexts)} contexts for {count} chunks")
    for context in contexts:
        if context is not None and (fault := context_fault(context)):
            raise ValueError(fault)
    return list(contexts)

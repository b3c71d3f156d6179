"""Chunks that callers bring, or that their own functions make, and where they lie in a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from embedfleet_producer.marks import in_force, marks_of
from embedfleet_producer.printable import printable, shown
from embedfleet_producer.validation import Validated, checked, validate
from embedfleet_schema.errors import BadChunking
from embedfleet_schema.types import Chunk, ChunkMode, Rejection
from embedfleet_schema.visible_text import has_text

ChunkFunction = Callable[[str], Iterable[str | Chunk]]


def cut_by(function: ChunkFunction, validated: Validated, mode: ChunkMode) -> Validated | Rejection:
    """A document whose text a caller's function cuts, as one of ready-made chunks.

    What the function makes is what is validated and digested: a document whose chunks came out as
    before is unchanged, whatever the function is called. The marks of the text are in the chunks.
    """
    document = validated.document
    if document.text is None:
        return validated
    try:
        found = located(as_chunks(function(document.text)), document.text)
    except Exception as error:  # noqa: BLE001 - the user's code; it fails this document alone
        reason = printable(f"the chunk function raised {shown(error)}")
        return Rejection(document.key, "CHUNKER_FAILED", reason, document.place)
    chunks = [chunk for chunk in map(checked, found) if isinstance(chunk, Chunk)]
    marks = in_force(marks_of(document, mode), [chunk.start for chunk in chunks])
    marked = [
        replace(chunk, metadata={**carried, **chunk.metadata}) if carried else chunk
        for chunk, carried in zip(chunks, marks, strict=True)
    ]
    cut = replace(document, text=None, chunks=marked, marks=())
    most = max(4 * validated.size, 1)
    return validate(cut, max_bytes=most, contextual=validated.contextual)


def as_chunks(pieces: Iterable[str | Chunk]) -> Iterator[Chunk]:
    """A caller's own chunks as they are, without those that have no visible text.

    Raises:
        BadChunking: they do not come one by one.
    """
    if isinstance(pieces, str) or not isinstance(pieces, Iterable):
        raise BadChunking(reason=f"chunks come as a list, not as {type(pieces).__name__}")
    for piece in pieces:
        chunk = piece if isinstance(piece, Chunk) else Chunk(piece)
        if not _is_text(chunk.content) or has_text(chunk.content):
            yield chunk


def _is_text(content: object) -> bool:
    """What is none is for the verdict on its chunk to say."""
    return isinstance(content, str)


def located(chunks: Iterable[Chunk], text: str) -> list[Chunk]:
    """The chunks with offsets that hold in `text`.

    Those that do not hold are looked for, in the order of the chunks; a chunk that is not in the
    text has None.
    """
    found: list[Chunk] = []
    search_from = 0
    for chunk in chunks:
        start: int | None = chunk.start if type(chunk.start) is int else None
        if not _is_text(chunk.content):
            start = None
        elif start is None or start < 0 or not text.startswith(chunk.content, start):
            place = text.find(chunk.content, search_from)
            start = place if place >= 0 else None
        if start is None:
            found.append(replace(chunk, start=None, end=None))
        else:
            search_from = start + 1
            found.append(replace(chunk, start=start, end=start + len(chunk.content)))
    return found


def parts_of(chunk: Chunk, parts: Sequence[tuple[int, int]]) -> list[Chunk]:
    """Parts of a chunk as chunks; their offsets are known where the chunk's own can be right."""
    start = chunk.start
    if start is None or chunk.end != start + len(chunk.content):
        return [replace(chunk, content=chunk.content[a:b], start=None, end=None) for a, b in parts]
    return [
        replace(chunk, content=chunk.content[a:b], start=start + a, end=start + b) for a, b in parts
    ]

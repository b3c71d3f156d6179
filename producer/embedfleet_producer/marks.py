"""Metadata of parts of a text, carried into the chunks that begin there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from embedfleet_producer.headings import HEADINGS, heading_marks
from embedfleet_schema.types import ChunkMode, Document, Mark


def in_force(marks: Sequence[Mark], starts: Sequence[int | None]) -> list[dict[str, Any]]:
    """What the marks say for each chunk, by where it starts; nothing where nobody knows that.

    Of two marks that set one name, the later one counts, and at one place the last one given.
    """
    found: list[dict[str, Any]] = [{} for _ in starts]
    ordered = sorted(marks, key=lambda mark: mark.start)
    known: list[tuple[int, int]] = sorted(
        (start, index) for index, start in enumerate(starts) if start is not None
    )
    current: dict[str, Any] = {}
    taken = 0
    for start, index in known:
        while taken < len(ordered) and ordered[taken].start <= start:
            current |= ordered[taken].metadata
            taken += 1
        found[index] = dict(current)
    return found


def marks_of(document: Document, mode: ChunkMode) -> Sequence[Mark]:
    """The marks of a text: its headings, where it is Markdown, and those that came with it.

    A caller who has `headings` of his own in the document's metadata keeps them.
    """
    if document.text is None or (document.mode or mode) != "markdown":
        return document.marks
    if HEADINGS in document.metadata:
        return document.marks
    return [*heading_marks(document.text), *document.marks]

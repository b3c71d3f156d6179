"""Documents put together again from their stored chunks, to be cut in another way.

The text of a document is not stored, its chunks and their offsets are. What no chunk has is the
white space between them, so that is what fills the gaps.
"""

from __future__ import annotations

from collections.abc import Sequence

from embedfleet_schema.store.samples import StoredChunk
from embedfleet_schema.types import ChunkMode, Document


def document(key: str, chunks: Sequence[StoredChunk]) -> Document:
    """The document that was cut into these chunks; one of ready-made chunks keeps them."""
    mode: ChunkMode = "markdown" if any(chunk.of_markdown for chunk in chunks) else "text"
    if any(chunk.start is None for chunk in chunks):
        return Document(key, chunks=[chunk.content for chunk in chunks])
    return Document(key, _joined(chunks), mode=mode)


def _joined(chunks: Sequence[StoredChunk]) -> str:
    text = ""
    for chunk in chunks:
        gap = (chunk.start or 0) - len(text)
        text += " " if gap == 1 else "\n" * gap
        text += chunk.content[max(0, -gap) :]
    return text

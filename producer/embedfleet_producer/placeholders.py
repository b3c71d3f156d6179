"""What is stored in the place of a ready-made chunk that PostgreSQL cannot hold."""

from __future__ import annotations

from dataclasses import dataclass

from embedfleet_schema.types import Chunk

NO_TEXT = bytes(16)


@dataclass(frozen=True, slots=True)
class PlaceholderChunk(Chunk):
    """It keeps the place of the chunk and says in `content` how that began, escaped.

    `hash` stands for the chunk as it was given, and is that of no text: one that reads the same
    does not share the failure.
    """

    code: str = ""
    reason: str = ""
    hash: bytes = NO_TEXT

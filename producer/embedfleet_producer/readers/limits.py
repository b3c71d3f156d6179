"""How much reading one file may take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from embedfleet_schema.types import MAX_EXPANSION, MAX_ROWS, READER_MEMORY_BYTES, READER_SECONDS

if TYPE_CHECKING:
    from embedfleet_schema.settings import Settings

_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """Settings of the same names say what they are."""

    max_rows: int = MAX_ROWS
    max_expansion: int = MAX_EXPANSION
    reader_memory_bytes: int = READER_MEMORY_BYTES
    reader_seconds: float = READER_SECONDS

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            max_rows=settings.max_rows,
            max_expansion=settings.max_expansion,
            reader_memory_bytes=settings.reader_memory_bytes,
            reader_seconds=settings.reader_seconds,
        )

    def unpacked_bytes(self, packed: int, max_bytes: int) -> int:
        """What a compressed file may unfold to; small ones may unfold further."""
        return max(max_bytes, packed * self.max_expansion)

    def cpu_seconds(self, size: int) -> int:
        """CPU time for a file of `size` bytes."""
        return math.ceil(self.reader_seconds * max(1, math.ceil(size / _MEGABYTE)))

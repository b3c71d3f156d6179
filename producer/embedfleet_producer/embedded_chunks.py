"""Chunks that come with their vector, made elsewhere and paid for."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedfleet_schema.types import Chunk, Document


def _none() -> NDArray[np.float32]:
    return np.empty(0, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class EmbeddedChunk(Chunk):
    """It is stored as it is, however long it is, with its `vector`: float32 of shape (dimensions,),
    which fits the space of the collection.
    """

    vector: NDArray[np.float32] = field(default_factory=_none, compare=False, repr=False)


def vector_bytes(document: Document) -> int:
    """What the vectors of a document take in memory."""
    chunks = document.chunks or ()
    return sum(chunk.vector.nbytes for chunk in chunks if isinstance(chunk, EmbeddedChunk))

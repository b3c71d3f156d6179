"""Models of sentence-transformers on this machine's CPU or GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embedfleet_schema.types import Kind, Space
from embedfleet_workers.embedders.checks import checked, no_vectors
from embedfleet_workers.embedders.choice import chosen_forward
from embedfleet_workers.embedders.engine import ANY, Wanted
from embedfleet_workers.embedders.protocol import Rows, Vectors
from embedfleet_workers.embedding_errors import EmbeddingError


class LocalEmbedder:
    """A sentence-transformers model whose vectors equal those of its own encode().

    In half precision they equal them nearly: `engine` and `precision` say what came of `wanted`.
    `threads` is how many CPU cores it may use (all that the process may, if None). `whole` is the
    space of what the model gives, where `space` only takes the first dimensions of that.

    Raises:
        ExtraMissing, WorkerStartFailed, ModelNotFound: it cannot be loaded.
        ModelRefused: it does not make the vectors that the space describes.
    """

    def __init__(
        self,
        space: Space,
        directory: Path,
        device: str = "cpu",
        threads: int | None = None,
        wanted: Wanted = ANY,
        whole: Space | None = None,
    ) -> None:
        self.space = space
        self.max_tokens = space.max_tokens
        self._closed = False
        self._forward = chosen_forward(whole or space, directory, device, threads, wanted)
        self.engine = self._forward.engine
        self.precision = self._forward.precision

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._forward.count(texts) if texts else []

    def unread_share(self, text: str) -> float:
        return self._forward.unread_share(text)

    def embed(self, texts: Sequence[str], kind: Kind) -> Vectors:
        if self._closed:
            raise EmbeddingError(reason=f"{self.space.name} is closed")
        if not texts:
            return no_vectors(self.space)
        try:
            vectors = self._forward(texts, kind)
        except RuntimeError as error:  # the engines' own, out-of-memory included
            reason = f"{self.space.name} failed on {len(texts)} texts: {error}"
            raise EmbeddingError(reason=reason) from error
        if vectors.shape[1] > self.space.dimensions:
            vectors = head(vectors, self.space.dimensions)
        return checked(vectors, len(texts), self.space)

    def close(self) -> None:
        self._closed = True
        self._forward.close()


def head(vectors: Rows, dimensions: int) -> Rows:
    """The first dimensions of vectors, of unit length again; float32 of shape (n, dimensions).

    A head of nothing but zeros has no direction, and becomes NaN: `checked` refuses it.
    """
    first = vectors[:, :dimensions]
    with np.errstate(invalid="ignore"):
        cut: Rows = first / np.linalg.norm(first, axis=1, keepdims=True)
    return cut

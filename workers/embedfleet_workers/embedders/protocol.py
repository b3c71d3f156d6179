"""What every embedder can do, and what a caller may rely on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedfleet_schema.types import Kind, Space

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts into the vectors of one space. Safe to call from several threads.

    Load it in the process that uses it: neither CUDA nor a thread pool survives a fork.
    """

    space: Space
    max_tokens: int
    """Tokens of a text that count towards its vector, the model's special tokens included."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens included, prompts not; never cut at `max_tokens`.

        Raises:
            InputAtFault: a text cannot be tokenized.
        """
        ...

    def embed(self, texts: Sequence[str], kind: Kind) -> Vectors:
        """The vectors of the texts, read as documents or as queries.

        Returns:
            C-contiguous float32 of shape (len(texts), space.dimensions); row i belongs to
            texts[i]. Finite, never zero, of unit length where the space is normalized. The same
            text gives the same vector whatever its neighbours, up to rounding.

        Raises:
            InputAtFault: one of the texts cannot be embedded; the others could be without it.
            EmbedderBusy: nothing is wrong, but the embedder asks to wait.
            BadAnswer: the model answered, but not with usable vectors.
            EmbeddingError: anything else; a retry may succeed.
        """
        ...

    def close(self) -> None:
        """Give back threads and memory. Closing twice is harmless, embedding afterwards is not."""
        ...

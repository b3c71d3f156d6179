"""Models of sentence-transformers on this machine's CPU or GPU."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedfleet_schema.errors import ModelRefused
from embedfleet_schema.types import Kind, Space
from embedfleet_workers.embedders.checks import checked, no_vectors
from embedfleet_workers.embedders.forward import Forward, PackedForward, PlainForward, packable
from embedfleet_workers.embedders.loading import load_model
from embedfleet_workers.embedders.protocol import Rows, Vectors
from embedfleet_workers.embedders.tokens import Tokens
from embedfleet_workers.embedding_errors import BadAnswer, EmbeddingError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_log = logging.getLogger(__name__)

# Two lengths, so that the shorter one is padded when they share a pack.
_PROBES = (
    "A probe.",
    "The second probe is a longer text: batched with the first one, it forces padding on it.",
)
_SAME_IN_FLOAT32 = 0.99999
_SAME_IN_HALF = 0.999


class LocalEmbedder:
    """A sentence-transformers model whose vectors equal those of its own encode().

    `threads` is how many CPU cores it may use (all that the process may, if None), and
    `padded_tokens` how much goes through the model at once (by device, if None).

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
        padded_tokens: int | None = None,
    ) -> None:
        self.space = space
        self.max_tokens = space.max_tokens
        self._closed = False
        model = load_model(space, directory, device)
        self._forward = _tried_forward(model, space, threads, padded_tokens)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._forward.count(texts) if texts else []

    def embed(self, texts: Sequence[str], kind: Kind) -> Vectors:
        if self._closed:
            raise EmbeddingError(reason=f"{self.space.name} is closed")
        if not texts:
            return no_vectors(self.space)
        try:
            vectors = self._forward(texts, kind)
        except RuntimeError as error:  # PyTorch's own, out-of-memory included
            reason = f"{self.space.name} failed on {len(texts)} texts: {error}"
            raise EmbeddingError(reason=reason) from error
        return checked(vectors, len(texts), self.space)

    def close(self) -> None:
        self._closed = True
        self._forward.close()


def _tried_forward(
    model: SentenceTransformer, space: Space, threads: int | None, padded_tokens: int | None
) -> Forward:
    """The quickest way through the model that gives the vectors of encode() on two probes."""
    plain = PlainForward(model, space, threads)
    expected = np.concatenate([_probe(plain, space, [text]) for text in _PROBES])
    if packable(model, space):
        tokens = Tokens(model.tokenizer, space.max_tokens)
        packed = PackedForward(model, tokens, space, threads, padded_tokens)
        if _agree(model, expected, _probe(packed, space, _PROBES)):
            plain.close()
            return packed
        packed.close()
        _log.warning("%s gives other vectors when packed by length: using encode()", space.name)
    if not _agree(model, expected, _probe(plain, space, _PROBES)):
        reason = "a text's vector depends on the texts that it is batched with"
        raise ModelRefused(model=space.name, reason=reason)
    return plain


def _probe(forward: Forward, space: Space, texts: Sequence[str]) -> Vectors:
    try:
        return checked(forward(texts, "document"), len(texts), space)
    except BadAnswer as error:
        reason = f"it does not make the vectors of its space: {error.reason}"
        raise ModelRefused(model=space.name, reason=reason) from error


def _agree(model: SentenceTransformer, one: Rows, other: Rows) -> bool:
    import torch

    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = np.einsum("ij,ij->i", one, other) / lengths
    enough = _SAME_IN_FLOAT32 if model.dtype == torch.float32 else _SAME_IN_HALF
    return bool((cosines >= enough).all())

"""A deterministic embedder without a model: for tests of this package and of its users."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import signal
import time
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from embedfleet_schema.types import Kind, Space
from embedfleet_workers.embedders.checks import checked
from embedfleet_workers.embedders.faults import Faults, Raised
from embedfleet_workers.embedders.protocol import Rows, Vectors
from embedfleet_workers.embedding_errors import EmbedderBusy, EmbeddingError, InputAtFault

# Keeps the 64-bit intermediates in the cache of a core.
_ROWS_AT_ONCE = 256
# As the chunker counts for fake spaces: punctuation marks, and up to 16 letters of a word.
_TOKEN = re.compile(r"\w{1,16}|[^\w\s]")


class FakeEmbedder:
    """Unit vectors drawn from SHA-256 of space, kind and text, equal bit for bit on any machine.

    Texts that resemble each other do not get similar vectors.
    """

    def __init__(self, space: Space, faults: Faults | None = None) -> None:
        self.space = space
        self.max_tokens = space.max_tokens
        self._faults = faults or Faults()
        self._calls = itertools.count(1)
        self._closed = False

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(_TOKEN.findall(text)) for text in texts]

    def embed(self, texts: Sequence[str], kind: Kind) -> Vectors:
        if self._closed:
            raise EmbeddingError(reason=f"{self.space.name} is closed")
        call = next(self._calls)
        self._misbehave(texts, call)
        vectors = fake_vectors(self.space, texts, kind)
        if self._faults.wrong and _is_due(self._faults.wrong_every, call):
            vectors = self._spoilt(vectors)
        return checked(vectors, len(texts), self.space)

    def close(self) -> None:
        self._closed = True

    def _misbehave(self, texts: Sequence[str], call: int) -> None:
        faults = self._faults
        if faults.latency:
            time.sleep(faults.latency)
        if faults.kill and any(faults.kill in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        if faults.poison and any(faults.poison in text for text in texts):
            raise InputAtFault(reason=f"it contains the poison {faults.poison!r}")
        if faults.quote and any(faults.quote in text for text in texts):
            raise ValueError(texts)
        if _is_due(faults.busy_every, call):
            raise EmbedderBusy(seconds=faults.busy_seconds, reason=f"call {call} is a busy one")
        if _is_due(faults.error_every, call):
            raise _error(faults.error, call)

    def _spoilt(self, vectors: Rows) -> Rows:
        match self._faults.wrong:
            case "too_few":
                return vectors[:-1]
            case "too_many":
                return np.vstack([vectors, vectors[:1]])
            case "too_narrow":
                return vectors[:, :-1]
            case wrong:
                spoilt = vectors.copy()
                spoilt[-1:] = {"nan": np.nan, "inf": np.inf}.get(wrong, 0.0)
                return spoilt


def fake_vectors(space: Space, texts: Sequence[str], kind: Kind) -> Rows:
    """The vectors of a fake space, shape (len(texts), space.dimensions)."""
    salt = _salt(space, kind)
    vectors = np.empty((len(texts), space.dimensions), dtype=np.float32)
    for start in range(0, len(texts), _ROWS_AT_ONCE):
        digests = b"".join(_digest(salt, text) for text in texts[start : start + _ROWS_AT_ONCE])
        seeds = np.frombuffer(digests, dtype="<u8").astype(np.uint64).reshape(-1, 4)
        vectors[start : start + len(seeds)] = _expand(seeds, space.dimensions)
    return vectors


@cache
def _salt(space: Space, kind: Kind) -> hashlib._Hash:
    return hashlib.sha256(space.fingerprint + kind.encode())


def _digest(salt: hashlib._Hash, text: str) -> bytes:
    state = salt.copy()
    state.update(_utf8(text))
    return state.digest()


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InputAtFault(reason=f"it is not Unicode text: {error}") from error


def _expand(seeds: NDArray[np.uint64], dimensions: int) -> Rows:
    """Unit vectors from 256-bit seeds, shape (n, 4) to (n, dimensions).

    The finalizer of SplitMix64 (Steele, Lea, Flood 2014) over a counter gives 64 bits at a time,
    four signed 16-bit coordinates. Their squares add up exactly in float64 in any order, so no
    platform's summation order shows in the result.
    """
    words = -(-dimensions // 4)
    counter = np.arange(1, words + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = np.take(seeds, np.arange(words) % 4, axis=1) + counter
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    whole = state.astype("<u8").view("<i2")[:, :dimensions].astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", whole, whole))
    vectors: Rows = (whole / lengths[:, None]).astype(np.float32)
    return vectors


def _error(name: Raised, call: int) -> BaseException:
    match name:
        case "MemoryError":
            return MemoryError()
        case "SystemExit":
            return SystemExit()
        case "KeyboardInterrupt":
            return KeyboardInterrupt()
        case "EmbeddingError":
            return EmbeddingError(reason=f"call {call} is one that fails")


def _is_due(every: int, call: int) -> bool:
    return every > 0 and call % every == 0

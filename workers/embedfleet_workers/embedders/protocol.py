"""What every embedder can do, and what a caller may rely on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NewType, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from embedfleet_schema.turns import Lane
from embedfleet_schema.types import EngineName, Kind, Precision, Space
from embedfleet_workers.allowance import UNLIMITED, Allowance

Rows = NDArray[np.float32]
# What `vector_checks` found no fault in; nobody looks at it again before it is stored.
Vectors = NewType("Vectors", NDArray[np.float32])


@dataclass(frozen=True, slots=True)
class Spent:
    """What a provider says that an answer cost."""

    requests: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Part:
    """The answer to some of the texts: `vectors[i]` belongs to `texts[rows[i]]`.

    Without rows it is an answer that was of no use and has to be paid for all the same.
    """

    rows: Sequence[int]
    vectors: Vectors
    spent: Spent


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


@runtime_checkable
class RunsHere(Protocol):
    """An embedder whose model runs on this machine: with what, and in which precision."""

    engine: EngineName
    precision: Precision


@runtime_checkable
class KnowsItsWords(Protocol):
    """An embedder that can tell whether a text says anything to its model."""

    def unread_share(self, text: str) -> float:
        """How much of the text's letters and digits its tokenizer does not know, from 0 to 1.

        Raises:
            InputAtFault: it cannot be tokenized.
        """
        ...


@runtime_checkable
class EmbedsInParts(Protocol):
    """An embedder whose answers are paid for one by one, and worth keeping one by one."""

    def parts(
        self,
        texts: Sequence[str],
        kind: Kind,
        wanted: Callable[[], bool] = lambda: True,
        allowance: Allowance = UNLIMITED,
        lane: Lane = "interactive",
    ) -> Iterator[Part]:
        """Answers as they arrive, in any order, each row once.

        `wanted` is asked after each part; once it says no, nothing more is sent, and what is under
        way is still given out. Leaving the iteration early gives up what is under way, too. It
        raises what `Embedder.embed` raises, after all answers that did arrive were given out, and
        also:

        `allowance` pays for each request before it is sent, once more where it is repeated, and is
        told what an answer cost. `lane`: who waits for a rate limit lets what is interactive go
        first.

        Raises:
            ReservationSpent: it did not pay for all of them.
            ProviderStopped: the provider refuses this account or this model until a person acts.
        """
        ...

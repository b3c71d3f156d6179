"""Packing: distinct texts of similar length into batches of so many tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

# OpenAI takes as many inputs in one request, and their numbers are 16 kB of a row.
MAX_TEXTS = 2_048


# What tells a text from others: its number, or its hash where it has none yet.
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Packed(Generic[T]):
    """The texts of one batch, and the sum of their tokens."""

    texts: list[T]
    tokens: int


def pack(texts: Iterable[tuple[T, int]], batch_tokens: int) -> list[Packed[T]]:
    """Cut (text, tokens) pairs into batches of at most `batch_tokens` tokens, longest texts first.

    The load is spread evenly: 1.1 of it become two batches of 0.55, so no worker idles over a
    remainder. A single text above it makes a batch of its own.
    """
    ordered = sorted(texts, key=lambda text: text[1], reverse=True)
    total = sum(tokens for _, tokens in ordered)
    share = total / max(1, -(-total // batch_tokens))
    packs: list[Packed[T]] = []
    taken: list[T] = []
    held = 0
    for text, tokens in ordered:
        full = held + tokens > batch_tokens or held >= share or len(taken) == MAX_TEXTS
        if taken and full:
            packs.append(Packed(taken, held))
            taken, held = [], 0
        taken.append(text)
        held += tokens
    if taken:
        packs.append(Packed(taken, held))
    return packs

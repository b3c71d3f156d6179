"""Packing: distinct texts of similar length into batches of one token budget."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# An array of 2,048 hashes is 74 kB, and OpenAI takes as many inputs in one request.
MAX_TEXTS = 2_048


@dataclass(frozen=True, slots=True)
class Packed:
    """The hashes of one batch and the sum of their tokens."""

    hashes: list[bytes]
    tokens: int


def pack(texts: Iterable[tuple[bytes, int]], budget: int) -> list[Packed]:
    """Cut (sha256, tokens) pairs into batches of at most `budget` tokens, longest texts first.

    The load is spread evenly: 1.1 budgets become two batches of 0.55, so no worker idles over a
    remainder. A single text above the budget makes a batch of its own.
    """
    ordered = sorted(texts, key=lambda text: text[1], reverse=True)
    total = sum(tokens for _, tokens in ordered)
    share = total / max(1, -(-total // budget))
    packs: list[Packed] = []
    hashes: list[bytes] = []
    held = 0
    for sha256, tokens in ordered:
        full = held + tokens > budget or held >= share or len(hashes) == MAX_TEXTS
        if hashes and full:
            packs.append(Packed(hashes, held))
            hashes, held = [], 0
        hashes.append(sha256)
        held += tokens
    if hashes:
        packs.append(Packed(hashes, held))
    return packs

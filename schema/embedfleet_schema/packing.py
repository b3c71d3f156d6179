"""Packing: distinct texts of similar length into batches of one token budget."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# OpenAI takes as many inputs in one request, and their numbers are 16 kB of a row.
MAX_TEXTS = 2_048


@dataclass(frozen=True, slots=True)
class Packed:
    """The texts of one batch, by their numbers, and the sum of their tokens."""

    text_ids: list[int]
    tokens: int


def pack(texts: Iterable[tuple[int, int]], budget: int) -> list[Packed]:
    """Cut (text_id, tokens) pairs into batches of at most `budget` tokens, longest texts first.

    The load is spread evenly: 1.1 budgets become two batches of 0.55, so no worker idles over a
    remainder. A single text above the budget makes a batch of its own.
    """
    ordered = sorted(texts, key=lambda text: text[1], reverse=True)
    total = sum(tokens for _, tokens in ordered)
    share = total / max(1, -(-total // budget))
    packs: list[Packed] = []
    text_ids: list[int] = []
    held = 0
    for text_id, tokens in ordered:
        full = held + tokens > budget or held >= share or len(text_ids) == MAX_TEXTS
        if text_ids and full:
            packs.append(Packed(text_ids, held))
            text_ids, held = [], 0
        text_ids.append(text_id)
        held += tokens
    if text_ids:
        packs.append(Packed(text_ids, held))
    return packs

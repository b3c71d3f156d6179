"""The texts of a batch cut into requests, as large as the provider and the limit allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """Some texts of a batch: `rows[i]` is the place of `texts[i]`, `tokens[i]` its estimate."""

    rows: Sequence[int]
    texts: Sequence[str]
    tokens: Sequence[int]

    def halves(self) -> tuple[Request, Request]:
        middle = len(self.rows) // 2
        return (
            Request(self.rows[:middle], self.texts[:middle], self.tokens[:middle]),
            Request(self.rows[middle:], self.texts[middle:], self.tokens[middle:]),
        )


def cut(
    whole: Request, tokens: Sequence[int], *, most_inputs: int, most_tokens: int | None
) -> list[Request]:
    """`whole` in its order, in requests within both limits; a text beyond them goes alone.

    `tokens` are the corrected estimates, those in `whole` stay as they are.
    """
    requests: list[Request] = []
    start = 0
    held = 0
    for place, count in enumerate(tokens):
        full = place - start >= most_inputs
        if place > start and (full or (most_tokens is not None and held + count > most_tokens)):
            requests.append(_slice(whole, start, place))
            start, held = place, 0
        held += count
    if whole.rows:
        requests.append(_slice(whole, start, len(whole.rows)))
    return requests


def _slice(whole: Request, start: int, end: int) -> Request:
    return Request(whole.rows[start:end], whole.texts[start:end], whole.tokens[start:end])

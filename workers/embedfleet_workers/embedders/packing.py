"""Texts of similar length, packed so that little of a forward pass is padding."""

from __future__ import annotations

from collections.abc import Sequence


class TokenBudget:
    """How many padded tokens go through the model at once; gives way when memory runs out."""

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self.tokens = ceiling

    def shrink(self) -> None:
        self.tokens = max(1, self.tokens // 2)

    def grow(self) -> None:
        """Called after every pack that fitted: about 45 of them undo one halving."""
        self.tokens = min(self._ceiling, self.tokens + self.tokens // 64 + 1)


def pack_by_length(lengths: Sequence[int], padded_tokens: int, streams: int = 1) -> list[list[int]]:
    """Indices of `lengths` in packs whose rows times longest row stay within the budget.

    The longest come first: what does not fit a device fails at once. A row longer than the budget
    gets a pack of its own. Packs that would leave some of the streams idle at the end are cut
    into one part per stream.
    """
    packs: list[list[int]] = []
    width = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if not packs or (len(packs[-1]) + 1) * width > padded_tokens:
            packs.append([])
            width = max(1, lengths[index])
        packs[-1].append(index)
    leftover = len(packs) % streams
    if not leftover:
        return packs
    tail = [index for pack in packs[-leftover:] for index in pack]
    return packs[:-leftover] + _parts(tail, streams)


def _parts(rows: list[int], count: int) -> list[list[int]]:
    size, longer = divmod(len(rows), count)
    parts: list[list[int]] = []
    start = 0
    for part in range(count):
        end = start + size + (part < longer)
        parts.append(rows[start:end])
        start = end
    return [part for part in parts if part]

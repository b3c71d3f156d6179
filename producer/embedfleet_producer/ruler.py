"""Tells the splitter how long its pieces are, in tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from embedfleet_producer.token_offsets import TokenOffsets
from embedfleet_producer.tokens import TokenCounter

# By how much a piece that is cut out may have other tokens than it has in its text: those of the
# word at either end.
_DOUBT = 2
# So much of a piece is looked for: the search for a long one takes longer to begin.
_BEGINNING = 40


class Ruler:
    """Measures pieces of one text, window by window.

    The splitter does not say where a piece stands. It is looked for behind the last one: what is
    found may be an earlier one that reads alike, and has the same tokens.

    `limits` are the numbers of tokens that it compares with: size and overlap.
    """

    def __init__(self, offsets: TokenOffsets, counter: TokenCounter, limits: Sequence[int]) -> None:
        self._offsets = offsets
        self._counter = counter
        self._near = {
            tokens
            for limit in limits
            for tokens in range(limit - _DOUBT, limit + _DOUBT + 1)
            if limit
        }
        self._window = ""
        self._at = 0
        self._ends: list[int] = []
        self._last = 0

    def lay(self, at: int, window: str) -> None:
        """Measure pieces of this window from now on."""
        self._at = at
        self._window = window
        self._ends = self._offsets.within(at, at + len(window))
        self._last = 0

    def __call__(self, piece: str) -> int:
        """The tokens of a piece, exact near a limit."""
        place = self._place(piece)
        end = place + len(piece)
        tokens = bisect_right(self._ends, end) - bisect_right(self._ends, place)
        if tokens in self._near and not self._offsets.is_exact(self._at + place, self._at + end):
            return self._counter.read([piece])[0].tokens
        return tokens

    def _place(self, piece: str) -> int:
        window = self._window
        if not window.startswith(piece, self._last):
            place = window.find(piece[:_BEGINNING], self._last)
            if place < 0 or not window.startswith(piece, place):
                place = window.find(piece)
            self._last = place
        return self._last

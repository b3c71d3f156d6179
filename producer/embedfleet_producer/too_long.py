"""The beginning of a text that a model takes, where the whole is too long for it."""

from __future__ import annotations

from embedfleet_producer.graphemes import grapheme_start
from embedfleet_producer.tokens import TokenCounter
from embedfleet_schema.visible_text import has_text

# More characters than a token usually has: what is read at first of a text of any length.
_CHARACTERS_PER_TOKEN = 32


def longest_beginning(text: str, limit: int, counter: TokenCounter) -> int:
    """Where the longest beginning of a text ends that has at most `limit` tokens.

    It ends between characters as a reader sees them, and not with whitespace. 0 where nothing
    that can be seen fits.
    """

    def fits(end: int) -> bool:
        return counter.read([text[:end]])[0].tokens <= limit

    high = min(len(text), _CHARACTERS_PER_TOKEN * limit)
    while high < len(text) and fits(high):
        high = min(len(text), 2 * high)
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    end = _ending(text, low)
    while end and not fits(end):
        end = _ending(text, end - 1)
    return end if has_text(text[:end]) else 0


def _ending(text: str, end: int) -> int:
    return len(text[: grapheme_start(text, end)].rstrip())

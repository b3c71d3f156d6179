"""Where the tokens of a text end: from one reading of it, the tokens of any piece are counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ends = NDArray[np.int32]

# A tokenizer reads a long text in parts of so many characters: on all cores, and in memory that
# does not grow with the text.
_LONGEST_PART = 4_096
# What every tokenizer takes for the space between two words; some remove other whitespace.
SPACES = " \n\t\r"
_NONE = np.empty(0, np.int32)


class Reading(NamedTuple):
    """How many tokens a text has, and how many of them stand for what is unknown."""

    tokens: int
    unknown: int


class Part(NamedTuple):
    """A part of a text that is read by itself."""

    start: int
    content: str


class PartTokens(NamedTuple):
    """Where the tokens of a part end in it, and those among them that stand for the unknown."""

    ends: Sequence[int]
    unknown: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class TokenOffsets:
    """Where the tokens of one text end, in ascending order.

    A piece of the text that is tokenised by itself may have other tokens than it has there, but
    not if it is cut out beside `separators`.
    """

    text: str
    ends: Ends
    unknown: Ends
    separators: str

    def within(self, start: int, end: int) -> list[int]:
        """The ends of the tokens of a piece, counted from its start."""
        low, high = np.searchsorted(self.ends, (start, end), side="right")
        found: list[int] = (self.ends[low:high] - start).tolist()
        return found

    def readings(self, cuts: Sequence[tuple[int, int]]) -> list[Reading | None]:
        """The tokens of each piece by itself; None where only the tokenizer can tell."""
        places = np.array(cuts, np.int32).reshape(-1, 2)
        tokens = _between(self.ends, places)
        unknown = _between(self.unknown, places)
        return [
            Reading(count, 0) if not unread and self.is_exact(*cut) else None
            for cut, count, unread in zip(cuts, tokens, unknown, strict=True)
        ]

    def is_exact(self, start: int, end: int) -> bool:
        """Whether a piece has the same tokens by itself."""
        return self._parts(start) and self._parts(end)

    def _parts(self, place: int) -> bool:
        text = self.text
        return (
            not 0 < place < len(text)
            or text[place - 1] in self.separators
            or text[place] in self.separators
        )


def joined(
    text: str, parts: Iterable[Part], tokens: Iterator[PartTokens], separators: str = ""
) -> TokenOffsets:
    """The offsets of a text whose parts were read one by one."""
    ends, unknown = [_NONE], [_NONE]
    for part in parts:
        found = next(tokens)
        ends.append(np.array(found.ends, np.int32) + part.start)
        unknown.append(np.array(found.unknown, np.int32) + part.start)
        if part.start and part.content[0] not in SPACES:
            separators = ""  # the part may begin within a word, whose tokens are others now
    return TokenOffsets(text, _ascending(ends), _ascending(unknown), separators)


def parts_of(text: str) -> list[Part]:
    """The text in parts that begin with a space where one is near."""
    parts, start = [], 0
    while start < len(text):
        end = start + _LONGEST_PART
        if end < len(text):
            place = max(text.rfind(space, start + _LONGEST_PART // 2, end) for space in SPACES)
            end = place if place > 0 else end
        parts.append(Part(start, text[start:end]))
        start = end
    return parts


def _ascending(ends: Sequence[Ends]) -> Ends:
    """All ends; some normalizers move marks, and offsets with them."""
    found: Ends = np.maximum.accumulate(np.concatenate(ends))
    return found


def _between(ends: Ends, places: NDArray[np.int32]) -> list[int]:
    counted = np.diff(np.searchsorted(ends, places, side="right"))
    found: list[int] = counted[:, 0].tolist()
    return found

"""Where the tokens of a text end: from one reading of it, the tokens of any piece are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


class PartTokens(NamedTuple):
    """Where the tokens of a part end in it, and those among them that stand for the unknown."""

    ends: Sequence[int] | Ends
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
        # Of another type than the ends, they would be compared with a copy of all of them.
        places = np.array((start, end), np.int32)
        low, high = np.searchsorted(self.ends, places, side="right")
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


def offsets_of(
    texts: Sequence[str],
    read: Callable[[Iterator[str]], Iterator[PartTokens]],
    separators: str = "",
) -> list[TokenOffsets]:
    """The offsets of each text, whose parts are read one by one."""
    parts = [parts_of(text) for text in texts]
    tokens = read(text[part] for text, each in zip(texts, parts, strict=True) for part in each)
    return [
        _joined(text, each, tokens, separators) for text, each in zip(texts, parts, strict=True)
    ]


def _joined(
    text: str, parts: Sequence[slice], tokens: Iterator[PartTokens], separators: str
) -> TokenOffsets:
    ends, unknown = [_NONE], [_NONE]
    for part in parts:
        found = next(tokens)
        ends.append(np.array(found.ends, np.int32) + part.start)
        unknown.append(np.array(found.unknown, np.int32) + part.start)
        if part.start and text[part.start] not in SPACES:
            separators = ""  # the part may begin within a word, whose tokens are others now
    return TokenOffsets(text, ascending(ends), ascending(unknown), separators)


def parts_of(text: str) -> list[slice]:
    """Where the parts of a text are. They begin with a space where one is near."""
    parts, start = [], 0
    while start < len(text):
        end = start + _LONGEST_PART
        if end < len(text):
            place = max(text.rfind(space, start + _LONGEST_PART // 2, end) for space in SPACES)
            end = place if place > start else end
        parts.append(slice(start, min(end, len(text))))
        start = end
    return parts


def ascending(ends: Sequence[Ends]) -> Ends:
    """All ends; some normalizers move marks, and offsets with them."""
    found: Ends = np.concatenate(ends)
    np.maximum.accumulate(found, out=found)
    return found


def _between(ends: Ends, places: NDArray[np.int32]) -> list[int]:
    counted = np.diff(np.searchsorted(ends, places, side="right"))
    found: list[int] = counted[:, 0].tolist()
    return found

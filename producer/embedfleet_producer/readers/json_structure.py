"""The brackets and commas of a JSON text, without its values: what it would take, where it ends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

# A value takes about a hundred bytes of memory, whatever its two characters of text.
MAX_VALUES = 1_000_000
MAX_DEPTH = 500
_SMALL = 1_000_000

_OUTSIDE = re.compile(r'["\[\]{},]')
# In steps: a repetition without an end would remember each of its turns.
_INSIDE = re.compile(r'(?:\\.|[^"\\]+){1,500}', re.DOTALL)


class TooDeep(ValueError):
    """Brackets nest deeper than anybody writes."""


class Structure:
    """Follows a JSON text that comes in pieces."""

    def __init__(self) -> None:
        self.depth = 0
        self._in_string = False
        self._is_escaped = False

    def signs(self, piece: str) -> Iterator[tuple[int, str]]:
        """Each of `[ ] { } ,` outside strings, with its place in the piece."""
        place = 0
        while place < len(piece):
            if self._in_string:
                place = self._through_string(piece, place)
                continue
            found = _OUTSIDE.search(piece, place)
            if found is None:
                return
            place = found.end()
            sign = found[0]
            if sign == '"':
                self._in_string = True
                continue
            if sign in "[{":
                self.depth += 1
                if self.depth > MAX_DEPTH:
                    raise TooDeep(f"it is nested deeper than {MAX_DEPTH}")
            elif sign != ",":
                self.depth -= 1
            yield found.start(), sign

    def _through_string(self, piece: str, place: int) -> int:
        if self._is_escaped:
            self._is_escaped = False
            place += 1
        while found := _INSIDE.match(piece, place):
            place = found.end()
        if piece[place : place + 1] == '"':
            self._in_string = False
        elif piece[place : place + 1] == "\\":
            self._is_escaped = True
        return place + 1


def has_too_many_values(text: str) -> bool:
    """Whether a text would take too much memory as values. Small ones are not looked at."""
    if len(text) < _SMALL:
        return False
    signs = Structure().signs(text)
    count = 0
    try:
        for _, sign in signs:
            count += sign in "[{,"
            if count > MAX_VALUES:
                return True
    except TooDeep:
        # The parser says it better.
        return False
    return False


def elements(pieces: Iterable[str], limit: int) -> Iterator[str]:
    """The texts of an array's elements; of one over `limit` characters, a little more than those.

    Args:
        pieces: of a text whose first sign is the bracket that opens the array.
        limit: in characters.

    Raises:
        ValueError: the array does not end, or something follows it.
    """
    structure = Structure()
    element = _Element(limit)
    remaining = iter(pieces)
    is_open = False
    for piece in remaining:
        begin = 0
        for place, sign in structure.signs(piece):
            if not is_open:
                is_open, begin = True, place + 1
            elif structure.depth == 0:
                element.add(piece[begin:place])
                if last := element.taken().strip():
                    yield last
                _check_end(sign, chain([piece[place + 1 :]], remaining))
                return
            elif structure.depth == 1 and sign == ",":
                element.add(piece[begin:place])
                begin = place + 1
                yield element.taken()
        element.add(piece[begin:])
    raise ValueError("the array does not end")


def _check_end(sign: str, rest: Iterable[str]) -> None:
    if sign != "]" or any(piece.strip() for piece in rest):
        raise ValueError("something follows the array")


class _Element:
    """Pieces of one element, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[str] = []
        self._room = limit + 1

    def add(self, piece: str) -> None:
        if self._room and piece:
            self._pieces.append(piece[: self._room])
            self._room -= len(self._pieces[-1])

    def taken(self) -> str:
        text = "".join(self._pieces)
        self._pieces, self._room = [], self._limit + 1
        return text

"""Where a text must not be cut: inside what a reader takes for one character.

The rules of https://unicode.org/reports/tr29/ that matter to stored text; Indic conjuncts and
prefixed marks are not among them.
"""

from __future__ import annotations

import unicodedata

_JOINER = "\u200d"
# They extend the character before them, but are no marks by category.
_EXTENDING = frozenset("\u200c\u200d\uff9e\uff9f")
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_TAGS = range(0xE0020, 0xE0080)
_REGIONAL = range(0x1F1E6, 0x1F200)
_JAMO = range(0x1100, 0x1200)
_JAMO_VOWELS_AND_FINALS = range(0x1160, 0x1200)
_SYLLABLES = range(0xAC00, 0xD7A4)
# Longer runs are hostile or broken text: they are cut anywhere, in a time that does not grow.
_LONGEST_CLUSTER = 64
_LONGEST_FLAG_RUN = 1_024


def grapheme_start(text: str, index: int) -> int:
    """The nearest place at or before `index` where `text` may be cut, else `index`."""
    for place in range(index, max(index - _LONGEST_CLUSTER, -1), -1):
        if not _is_inside(text, place):
            return place
    return index


def grapheme_end(text: str, index: int) -> int:
    """The nearest place at or after `index` where `text` may be cut, else `index`."""
    for place in range(index, index + _LONGEST_CLUSTER):
        if not _is_inside(text, place):
            return place
    return index


def _is_inside(text: str, index: int) -> bool:
    if not 0 < index < len(text):
        return False
    before, after = text[index - 1], text[index]
    if after.isascii():
        return before == "\r" and after == "\n"
    if before.isspace() or unicodedata.category(before) == "Cc":
        return False
    if ord(after) in _REGIONAL:
        return _regionals_before(text, index) % 2 == 1
    if before == _JOINER and unicodedata.category(after) == "So":
        return _is_picture_before(text, index - 1)
    return _extends(before, after)


def _extends(before: str, after: str) -> bool:
    code = ord(after)
    if code in _JAMO_VOWELS_AND_FINALS:
        return ord(before) in _JAMO or ord(before) in _SYLLABLES
    is_mark = unicodedata.category(after).startswith("M")
    return is_mark or after in _EXTENDING or code in _SKIN_TONES or code in _TAGS


def _is_picture_before(text: str, index: int) -> bool:
    """Whether the character before `index`, its marks and skin tone aside, is a pictograph."""
    for place in range(index - 1, max(index - _LONGEST_CLUSTER, 0) - 1, -1):
        category = unicodedata.category(text[place])
        if not category.startswith("M") and ord(text[place]) not in _SKIN_TONES:
            return category == "So" and ord(text[place]) not in _REGIONAL
    return False


def _regionals_before(text: str, index: int) -> int:
    start = index
    while start > max(index - _LONGEST_FLAG_RUN, 0) and ord(text[start - 1]) in _REGIONAL:
        start -= 1
    return index - start

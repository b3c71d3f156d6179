"""Words that a tokenizer has read before: a text is mostly made of them, and need not be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain
from string import punctuation

import numpy as np

from embedfleet_producer.token_offsets import SPACES, Ends, PartTokens, ascending

# Where the tokens of a word end in it.
WordEnds = tuple[int, ...]

# Some twenty megabytes of words and what is known of them.
MOST_WORDS = 65_536
# Longer ones hardly come again: so is a line of Chinese, which has no separators.
LONGEST_WORD = 64
# As so many characters of a text, each word that is new takes longer to keep than to read.
_COST_OF_WORD = 8
# New words are read so many at a time, as one text.
_WORDS_AT_ONCE = 256
_WORD, _MARK, _SPACE = range(3)


class WordMemory:
    """The tokens of words that were read before, for a tokenizer that cuts at `separators` before
    all else: a word between two of them has the same tokens wherever it stands.

    `tokens_of` reads texts. What has words that it does not know, or that are new in the main, is
    left to it. Safe for several threads: what one of them forgets, another may still use.
    """

    def __init__(
        self, separators: str, tokens_of: Callable[[Iterator[str]], Iterator[PartTokens]]
    ) -> None:
        marks = "".join(mark for mark in separators if mark in punctuation)
        alone = f"|[{re.escape(marks)}]" if marks else ""
        self._words = re.compile(f"[^{re.escape(separators)}]+{alone}").findall
        self._kinds = np.full(128, _WORD, np.int8)
        self._kinds[list(marks.encode())] = _MARK
        self._kinds[list(SPACES.encode())] = _SPACE
        self._tokens_of = tokens_of
        # None for a word that the tokenizer does not know.
        self._known: dict[str, WordEnds | None] = {}

    def look_up(self, texts: Sequence[str]) -> list[list[WordEnds] | None]:
        """The tokens of each text, word by word; None where the tokenizer has to read it."""
        known = self._known
        found: list[list[WordEnds] | None] = []
        left: dict[int, list[str]] = {}
        # One text after the other: the words of all would not stay in the processor's cache.
        for n, text in enumerate(texts):
            words = self._words(text)
            found.append(_complete(map(known.get, words)))
            if found[-1] is None:
                left[n] = words
        if left:
            known = self._learnt(set(chain(*left.values())), sum(len(texts[n]) for n in left))
            for n, words in left.items():
                found[n] = _complete(map(known.get, words))
        return found

    def ends(self, text: str, words: Sequence[WordEnds]) -> Ends:
        """Where the tokens of a text end that has these words."""
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        # All beyond ASCII is of words, as is its last character.
        kinds = self._kinds[np.minimum(codes, 127)]
        begins = kinds == _WORD
        begins[1:] &= kinds[:-1] != _WORD
        begins |= kinds == _MARK
        starts = np.flatnonzero(begins).astype(np.int32)
        counts = np.fromiter(map(len, words), np.int32, len(words))
        within = np.fromiter(chain.from_iterable(words), np.int32)
        return ascending([within + np.repeat(starts, counts)])

    def _learnt(self, words: set[str], characters: int) -> dict[str, WordEnds | None]:
        """What is known once these words of texts of so many characters are, if that pays."""
        known = self._known
        new = _new(words, known)
        if sum(map(len, new)) + _COST_OF_WORD * len(new) > characters:
            return known
        if len(known) + len(new) > MOST_WORDS:
            known = self._known = {}
            new = _new(words, known)
        known.update(self._read(new))
        return known

    def _read(self, words: Sequence[str]) -> Iterator[tuple[str, WordEnds | None]]:
        groups = [
            words[start : start + _WORDS_AT_ONCE] for start in range(0, len(words), _WORDS_AT_ONCE)
        ]
        read = self._tokens_of(" ".join(group) for group in groups)
        # There are few distinct ones.
        shapes: dict[WordEnds, WordEnds] = {}
        for group, tokens in zip(groups, read, strict=True):
            starts = list(accumulate((len(word) + 1 for word in group), initial=0))
            ends = ascending([np.array(tokens.ends, np.int32)])
            firsts = np.searchsorted(ends, starts, side="right").tolist()
            unknown = set(np.searchsorted(starts, np.array(tokens.unknown), side="left").tolist())
            listed = ends.tolist()
            for n, word in enumerate(group):
                start = starts[n]
                shape = tuple(end - start for end in listed[firsts[n] : firsts[n + 1]])
                yield word, None if n + 1 in unknown else shapes.setdefault(shape, shape)


def _new(words: Iterable[str], known: dict[str, WordEnds | None]) -> list[str]:
    return [word for word in words if word not in known and len(word) <= LONGEST_WORD]


def _complete(found: Iterable[WordEnds | None]) -> list[WordEnds] | None:
    listed = list(found)
    return None if None in listed else listed  # type: ignore[return-value]

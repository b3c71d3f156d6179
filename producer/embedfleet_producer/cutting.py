"""Long texts into spans that fit: the splitter's cuts, shown to it in windows and then checked.

A text is tokenised once. The splitter asks for the length of many pieces of it, and is answered
from the offsets of those tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import NamedTuple

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from embedfleet_producer.graphemes import grapheme_end, grapheme_start
from embedfleet_producer.ruler import Ruler
from embedfleet_producer.token_offsets import Reading, TokenOffsets
from embedfleet_producer.tokens import TokenCounter
from embedfleet_schema.types import ChunkMode
from embedfleet_schema.unreadable import Unread

# At each cut the splitter measures all of a paragraph or section that does not fit, which is
# quadratic where they are long. So it sees a window at a time, of about this many chunks: of them
# the last one is cut again, and a book takes its length in time. What is too few characters per
# token for English is many for Chinese, so a text's own chunks set its next window.
_CHUNKS_PER_WINDOW = 8
_CHARACTERS_PER_TOKEN = 32
_SMALLEST_WINDOW = 1_000
_FENCE = "```"


# Normalization (NFD) makes up to four characters of one: no shorter run holds too long a word.
_LONGEST_EXPANSION = 4

Splitter = TextSplitter | MarkdownSplitter


class Span(NamedTuple):
    """A part of a text, how many tokens it has, and how many of them stand for the unknown."""

    start: int
    end: int
    tokens: int
    unknown: int = 0


class Cutter:
    """Cuts at the best boundary (section, paragraph, sentence, word) that keeps to `size` tokens.

    Spans neither start nor end with whitespace, cover all that is not whitespace, and have at
    most `size` tokens, but for single characters that have more. A grapheme that a
    reader takes for one is cut only where it does not fit by itself.

    A word that is longer than the tokenizer reads (WordPiece has one unknown token for more than a
    hundred characters) is cut into parts that it does read, each in a span of its own. One that
    would stay unknown in parts, such as a line of Thai for an English model, stays whole.
    """

    def __init__(self, counter: TokenCounter, size: int, overlap: int) -> None:
        self._counter = counter
        self._size = size
        self._overlap = overlap
        self._window = max(_SMALLEST_WINDOW, _CHARACTERS_PER_TOKEN * size)
        shortest = (counter.word_limit or 0) // _LONGEST_EXPANSION + 1
        self._run = re.compile(rf"\S{{{shortest}}}") if counter.word_limit else None

    def cut(self, texts: Sequence[str], modes: Sequence[ChunkMode]) -> list[list[Span]]:
        offsets = self._counter.offsets(texts)
        cuts = [self._cut(known, mode) for known, mode in zip(offsets, modes, strict=True)]
        known = [each.readings(found) for each, found in zip(offsets, cuts, strict=True)]
        return self._checked(texts, cuts, known)

    def _cut(self, offsets: TokenOffsets, mode: ChunkMode) -> list[tuple[int, int]]:
        cursor = _Cursor(offsets.text, mode, self._window)
        ruler = Ruler(offsets, self._counter, (self._size, self._overlap))
        splitter = self._splitter(ruler, mode)
        while not cursor.is_done:
            ruler.lay(cursor.at, cursor.window)
            cursor.take(self._pieces(splitter, cursor.window))
        return _mended(offsets.text, cursor.found)

    def _pieces(self, splitter: Splitter, window: str) -> list[tuple[int, int]]:
        """The splitter's pieces of a window; one that it fails on is cut at any place."""
        try:
            return [(start, start + len(piece)) for start, piece in splitter.chunk_indices(window)]
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of Rust: no Exception, and not exported
                raise
        places = range(0, len(window), self._size)
        return [(place, min(place + self._size, len(window))) for place in places]

    def _checked(
        self,
        texts: Sequence[str],
        cuts: Sequence[Sequence[tuple[int, int]]],
        known: Sequence[Sequence[Reading | None]],
    ) -> list[list[Span]]:
        """Spans with their tokens: those that are known, and those that are still to be read."""
        unread = (
            text[start:end]
            for text, spans, readings in zip(texts, cuts, known, strict=True)
            for (start, end), reading in zip(spans, readings, strict=True)
            if reading is None
        )
        read = iter(self._counter.read(list(unread)))
        return [
            _ordered(
                chain.from_iterable(
                    self.fitted(text, Span(start, end, *(reading or next(read))))
                    for (start, end), reading in zip(spans, readings, strict=True)
                )
            )
            for text, spans, readings in zip(texts, cuts, known, strict=True)
        ]

    def fitted(self, text: str, span: Span) -> list[Span]:
        """The span, or its parts where a word of it is too long to be read, or it is too large.

        Spans are too large when mending a cut made them longer, and because the splitter takes it
        for granted that n bytes have at most n tokens, where some tokenizers put one in front.
        """
        if span.end - span.start == 1:
            return [span]
        places = self._places_in_words(text, span) if span.unknown else []
        if not places and span.tokens <= self._size:
            return [span]
        ends = [span.start, *(places or [_middle(text, span.start, span.end)]), span.end]
        cuts = (_stripped(text, start, end) for start, end in pairwise(ends))
        parts = [(start, end) for start, end in cuts if start < end]
        return self._checked([text], [parts], [[None] * len(parts)])[0]

    def _places_in_words(self, text: str, span: Span) -> list[int]:
        """Where the words of a span are cut that are too long to be read."""
        content = text[span.start : span.end]
        if self._run is None or not self._run.search(content):
            return []
        (words,) = self._counter.unread([content])
        places = chain.from_iterable(self._places_in(content, word) for word in words)
        return [span.start + place for place in places]

    def _places_in(self, content: str, word: Unread) -> list[int]:
        limit = self._counter.word_limit
        if limit is None or word.length <= limit:
            return []
        parts = -(-word.length // limit)
        even = (word.start + (word.end - word.start) * n // parts for n in range(1, parts))
        places = sorted({grapheme_start(content, place) for place in even} - {word.start})
        ends = [word.start, *places, word.end]
        readings = self._counter.read([content[start:end] for start, end in pairwise(ends)])
        return places if any(map(_is_read, readings)) else []

    def _splitter(self, ruler: Ruler, mode: ChunkMode) -> Splitter:
        # In Markdown the splitter trims a single line and leaves the indentation of several. Where
        # they overlap a piece can so begin before the one before it, at which the splitter panics.
        trim = mode == "text" or self._overlap == 0
        kind = MarkdownSplitter if mode == "markdown" else TextSplitter
        return kind.from_callback(ruler, self._size, self._overlap, trim)


@dataclass(slots=True)
class _Cursor:
    """How far the cutting of one text has come."""

    text: str
    mode: ChunkMode
    longest: int
    at: int = 0
    reach: int = field(init=False)
    found: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reach = self.longest

    @property
    def is_done(self) -> bool:
        return self.at >= len(self.text)

    @property
    def window(self) -> str:
        return self.text[self.at : self.at + self.reach]

    def take(self, cuts: Sequence[tuple[int, int]]) -> None:
        """Keep the cuts of the window, but for those that its end may have made."""
        end = self.at + self.reach
        if end >= len(self.text) or not cuts:
            kept, resume = len(cuts), end
        elif len(cuts) == 1:
            self.reach *= 2
            return
        else:
            kept = self._first_unsettled(cuts)
            resume = self.at + cuts[kept][0]
            wanted = _CHUNKS_PER_WINDOW * (resume - self.at) // kept
            self.reach = min(max(wanted, _SMALLEST_WINDOW), self.longest)
        self.found += [(self.at + start, self.at + end) for start, end in cuts[:kept]]
        self.at = resume

    def _first_unsettled(self, cuts: Sequence[tuple[int, int]]) -> int:
        """The last cut; in Markdown the last outside fenced code, or code would be read as text."""
        last = len(cuts) - 1
        if self.mode == "text":
            return last
        seen = self.window
        outside = (n for n in range(last, 0, -1) if seen.count(_FENCE, 0, cuts[n][0]) % 2 == 0)
        return next(outside, last)


def _ordered(spans: Iterable[Span]) -> list[Span]:
    """In the order of the text. Where two overlap and one was cut again, what begins before the
    last part is in the parts already, or has that part in itself.
    """
    kept: list[Span] = []
    for span in spans:
        if kept and span.start < kept[-1].start and span.end <= kept[-1].end:
            continue
        while kept and span.start < kept[-1].start:
            kept.pop()
        kept.append(span)
    return kept


def _is_read(reading: Reading) -> bool:
    return reading.tokens > reading.unknown


def _mended(text: str, cuts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The cuts moved out of graphemes and to where whitespace ends, as Python sees it."""
    moved = (
        _stripped(text, grapheme_start(text, start), grapheme_start(text, end))
        for start, end in cuts
    )
    return [(start, end) for start, end in moved if start < end]


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def _middle(text: str, start: int, end: int) -> int:
    """Where to halve: after whitespace, else between graphemes, else anywhere."""
    half = (start + end) // 2
    places = (
        max(text.rfind(space, start + 1, half) for space in " \n") + 1,
        grapheme_start(text, half),
        grapheme_end(text, half),
    )
    return next((place for place in places if start < place < end), half)

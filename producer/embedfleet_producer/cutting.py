"""Long texts into spans that fit: the splitter's cuts, shown to it in windows and then checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, pairwise
from typing import NamedTuple

from embedfleet_producer.graphemes import grapheme_end, grapheme_start
from embedfleet_producer.tokens import Reading, Splitter, TokenCounter
from embedfleet_producer.unreadable import Unread
from embedfleet_schema.types import ChunkMode

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
        self.window = max(_SMALLEST_WINDOW, _CHARACTERS_PER_TOKEN * size)
        self._splitter = cache(self._build_splitter)
        shortest = (counter.word_limit or 0) // _LONGEST_EXPANSION + 1
        self._run = re.compile(rf"\S{{{shortest}}}") if counter.word_limit else None

    def cut(self, texts: Sequence[str], modes: Sequence[ChunkMode]) -> list[list[Span]]:
        cursors = [
            _Cursor(text, mode, self.window) for text, mode in zip(texts, modes, strict=True)
        ]
        while unfinished := [cursor for cursor in cursors if not cursor.is_done]:
            for mode in sorted({cursor.mode for cursor in unfinished}):
                self._advance([cursor for cursor in unfinished if cursor.mode == mode], mode)
        mended = [_mended(cursor.text, cursor.found) for cursor in cursors]
        return self._checked(texts, mended)

    def _advance(self, cursors: Sequence[_Cursor], mode: ChunkMode) -> None:
        """Cut one window of each text; the splitter does so on all cores."""
        pieces_of_each = self._pieces([cursor.window for cursor in cursors], mode)
        for cursor, pieces in zip(cursors, pieces_of_each, strict=True):
            cursor.take([(offset, offset + len(piece)) for offset, piece in pieces])

    def _pieces(self, windows: Sequence[str], mode: ChunkMode) -> list[list[tuple[int, str]]]:
        """The splitter's pieces of each window; a window that it fails on is cut at any place."""
        try:
            return self._splitter(mode).chunk_all_indices(windows)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of Rust: no Exception, and not exported
                raise
        if len(windows) > 1:
            return [self._pieces([window], mode)[0] for window in windows]
        (window,) = windows
        places = range(0, len(window), self._size)
        return [[(place, window[place : place + self._size]) for place in places]]

    def _checked(
        self, texts: Sequence[str], cuts: Sequence[Sequence[tuple[int, int]]]
    ) -> list[list[Span]]:
        pieces = (text[a:b] for text, spans in zip(texts, cuts, strict=True) for a, b in spans)
        readings = iter(self._counter.read(list(pieces)))
        return [
            _ordered(
                chain.from_iterable(
                    self.fitted(text, Span(a, b, *next(readings))) for a, b in spans
                )
            )
            for text, spans in zip(texts, cuts, strict=True)
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
        return self._checked([text], [[(start, end) for start, end in cuts if start < end]])[0]

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

    def _build_splitter(self, mode: ChunkMode) -> Splitter:
        # In Markdown the splitter trims a single line and leaves the indentation of several. Where
        # they overlap a piece can so begin before the one before it, at which the splitter panics.
        trim = mode == "text" or self._overlap == 0
        return self._counter.splitter(mode, self._size, self._overlap, trim=trim)


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

"""Texts into chunks that the model takes whole, each with its offsets and its tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple, get_args

from embedfleet_producer.cutting import Cutter, Span
from embedfleet_producer.embedded_chunks import EmbeddedChunk
from embedfleet_producer.placeholders import PlaceholderChunk
from embedfleet_producer.ready_made import as_chunks, parts_of
from embedfleet_producer.templates import Template
from embedfleet_producer.token_offsets import Reading
from embedfleet_producer.tokens import TokenCounter, counter_for
from embedfleet_producer.too_long import longest_beginning
from embedfleet_schema.catalogue.plugins import is_plugin_space, tokenizer_name
from embedfleet_schema.embedded_text import embedded_text
from embedfleet_schema.errors import BadChunking
from embedfleet_schema.types import DEFAULT_SIZE, Chunk, Chunking, ChunkMode, Space, TooLong
from embedfleet_schema.unreadable import is_surely_read, unread_share

# Of what a model takes, where its tokens are estimated: its own tokenizer may find a third more.
ESTIMATED_SHARE = 0.75
# More than any model takes, and no number so long that nobody could read the refusal.
MOST_TOKENS = 2**31 - 1
# A text of no more than that most likely fits as it is. What does not is cut by its offsets, which
# take longer to find.
_CHARACTERS_PER_TOKEN = 4
# Single characters that have many tokens: of four bytes, and such as normalization makes words of.
_DENSE_CHARACTERS = tuple("\U0010fffd\U0001f44d\uac01\ufdfa\ufdfb\u3316\u3333\u1f82")

# Start, end, tokens, and the share that the tokenizer does not know. Processes send it to others:
# a plain tuple is written fastest.
Cut = tuple[int, int, int, float]


class PreparedChunk(NamedTuple):
    """A chunk and how many tokens it has in its context, special tokens and prompt not included.

    `unread` is the share of it that the model's tokenizer does not know; `before` are the tokens of
    its context.
    """

    chunk: Chunk
    tokens: int
    unread: float = 0.0
    before: int = 0


class Chunker:
    """Cuts the texts of one collection.

    Of each chunk that it cuts, `text[start:end] == content`; content neither starts nor ends with
    whitespace, and has at most `size` tokens, unless it is a single character that has more. All
    of a text that is not whitespace is in some chunk.

    `limit` is what the model takes of a text: its maximum, less special tokens and document
    prompt. Only ready-made chunks can exceed it. Where tokens are estimated, a size that nobody
    chose stays a quarter below it.

    Raises:
        BadChunking: size, overlap or mode cannot work with this model.
    """

    def __init__(self, space: Space, chunking: Chunking, counter: TokenCounter) -> None:
        _check_numbers(chunking)
        self._counter = counter
        prompt = space.document_prompt
        self.added = counter.special_tokens + (counter.read([prompt])[0].tokens if prompt else 0)
        self.approximate = counter.approximate
        self.limit = space.max_tokens - self.added
        whole = int(self.limit * ESTIMATED_SHARE) if counter.approximate else self.limit
        wanted = DEFAULT_SIZE if chunking.size is None else chunking.size
        self.size = max(min(wanted, whole) if chunking.size is None else wanted or whole, 1)
        _check(space, chunking, self.limit, self.size)
        self.mode = chunking.mode
        self.template = Template(chunking.template or "")
        self.too_long: TooLong = chunking.too_long
        self._overlap = chunking.overlap
        # By the size of what they cut, which contexts make smaller.
        self._cutters = {self.size: Cutter(counter, self.size, chunking.overlap)}

    def chunk(self, text: str, mode: ChunkMode | None = None) -> list[Chunk]:
        """The chunks of one text, in the collection's mode unless another is given."""
        return [prepared.chunk for prepared in self.chunk_many([text], [mode])[0]]

    def chunk_many(
        self, texts: Sequence[str], modes: Sequence[ChunkMode | None] | None = None
    ) -> list[list[PreparedChunk]]:
        """The chunks of each text. One that fits is tokenised once and never shown to a cutter."""
        wanted = modes or [None] * len(texts)
        cuts = self.cuts(texts, [mode or self.mode for mode in wanted])
        return [
            [
                PreparedChunk(Chunk(text[start:end], start, end), tokens, unread)
                for start, end, tokens, unread in found
            ]
            for text, found in zip(texts, cuts, strict=True)
        ]

    def prepare(
        self,
        documents: Sequence[Iterable[str | Chunk]],
        too_long: Sequence[TooLong] | None = None,
    ) -> list[list[PreparedChunk]]:
        """Ready-made chunks with their tokens, those of all documents counted at once.

        What is longer than the model takes is shortened or split where the chunking says so, or
        `too_long` for each document.
        """
        chunks = [list(as_chunks(pieces)) for pieces in documents]
        prepared = iter(self._read([chunk for each in chunks for chunk in each]))
        wanted = too_long or [self.too_long] * len(chunks)
        return [
            [part for one in islice(prepared, len(each)) for part in self._fitted(one, how)]
            for each, how in zip(chunks, wanted, strict=True)
        ]

    def context_tokens(self, contexts: Iterable[str]) -> dict[str, int]:
        """What each context takes of a chunk's tokens."""
        distinct = list(dict.fromkeys(contexts))
        read = self._counter.read([embedded_text("", context) for context in distinct])
        return {context: each.tokens for context, each in zip(distinct, read, strict=True)}

    def cuts(
        self,
        texts: Sequence[str],
        modes: Sequence[ChunkMode],
        reserved: Sequence[int] | None = None,
    ) -> list[list[Cut]]:
        """Where each text is cut; of the size of its chunks, so many tokens are `reserved` for what
        is embedded with them.
        """
        if reserved is None:
            return self._cuts(texts, modes, self.size)
        found: list[list[Cut]] = [[] for _ in texts]
        for each in sorted(set(reserved)):
            alike = [n for n, tokens in enumerate(reserved) if tokens == each]
            size = max(self.size - each, 1)
            cut = self._cuts([texts[n] for n in alike], [modes[n] for n in alike], size)
            for n, cuts in zip(alike, cut, strict=True):
                found[n] = cuts
        return found

    def _cuts(self, texts: Sequence[str], modes: Sequence[ChunkMode], size: int) -> list[list[Cut]]:
        cutter = self._cutter(size)
        done, spans = self._whole(texts, cutter, size)
        rest = [
            index
            for index, text in enumerate(texts)
            if not done[index] and index not in spans and text.strip()
        ]
        cut = cutter.cut([texts[index] for index in rest], [modes[index] for index in rest])
        spans.update(zip(rest, cut, strict=True))
        places = [(index, span) for index, found in spans.items() for span in found]
        unread = self._unread(
            [span for _, span in places],
            lambda n: texts[places[n][0]][places[n][1].start : places[n][1].end],
        )
        for n, (index, span) in enumerate(places):
            done[index].append((span.start, span.end, span.tokens, unread.get(n, 0.0)))
        return done

    def _cutter(self, size: int) -> Cutter:
        if size not in self._cutters:
            overlap = self._overlap * size // self.size
            self._cutters[size] = Cutter(self._counter, size, overlap)
        return self._cutters[size]

    def readings(self, contents: Sequence[str]) -> list[tuple[int, float]]:
        """The tokens of each ready-made chunk, and the share that the tokenizer does not know."""
        read = self._counter.read(contents)
        unread = self._unread(read, contents.__getitem__)
        return [(each.tokens, unread.get(n, 0.0)) for n, each in enumerate(read)]

    def _whole(
        self, texts: Sequence[str], cutter: Cutter, size: int
    ) -> tuple[list[list[Cut]], dict[int, list[Span]]]:
        """The cut of each text that fits; spans of those that do, but not all of it is known."""
        done: list[list[Cut]] = [[] for _ in texts]
        cut: dict[int, list[Span]] = {}
        short = [
            index for index, text in enumerate(texts) if len(text) <= _CHARACTERS_PER_TOKEN * size
        ]
        contents = [texts[index].strip() for index in short]
        readings = self._counter.read(contents)
        for index, content, (tokens, unknown) in zip(short, contents, readings, strict=True):
            if content and tokens <= size:
                start = texts[index].index(content)
                end = start + len(content)
                if tokens and not unknown:
                    done[index].append((start, end, tokens, 0.0))
                else:
                    span = Span(start, end, tokens, unknown)
                    cut[index] = cutter.fitted(texts[index], span)
        return done, cut

    def _unread(
        self, readings: Sequence[Reading | Span], content: Callable[[int], str]
    ) -> dict[int, float]:
        """Of texts that the tokenizer may not know, by number, the share that it does not."""
        doubtful = {
            n: text
            for n, reading in enumerate(readings)
            if (reading.unknown or not reading.tokens)
            and not is_surely_read(text := content(n), reading.tokens, reading.unknown)
        }
        places = self._counter.unread(list(doubtful.values()))
        return {
            n: unread_share(text, readings[n].tokens, unread)
            for (n, text), unread in zip(doubtful.items(), places, strict=True)
        }

    def _read(self, chunks: Sequence[Chunk]) -> list[PreparedChunk]:
        readings = self.readings([embedded_text(each.content, each.context) for each in chunks])
        before = self.context_tokens(each.context for each in chunks if each.context)
        return [
            PreparedChunk(chunk, tokens, unread, before[chunk.context] if chunk.context else 0)
            for chunk, (tokens, unread) in zip(chunks, readings, strict=True)
        ]

    def _fitted(self, prepared: PreparedChunk, too_long: TooLong) -> list[PreparedChunk]:
        """A ready-made chunk, or what stands for it if it is too long."""
        chunk = prepared.chunk
        limit = self.limit - prepared.before
        if prepared.tokens <= self.limit or too_long == "reject" or limit < 1:
            return [prepared]
        if isinstance(chunk, PlaceholderChunk | EmbeddedChunk):
            return [prepared]
        if too_long == "split":
            (spans,) = Cutter(self._counter, limit, 0).cut([chunk.content], ["text"])
            return self._read(parts_of(chunk, [(span.start, span.end) for span in spans]))
        end = longest_beginning(chunk.content, limit, self._counter)
        if end == 0:
            return [prepared]
        (beginning,) = parts_of(chunk, [(0, end)])
        cut = {"truncated": True, "original_tokens": prepared.tokens}
        return self._read([replace(beginning, metadata={**chunk.metadata, **cut})])


def settled(space: Space, chunking: Chunking) -> Chunking:
    """The chunking of a new collection, its size chosen, once it is known that it can work; with
    the tokenizer of a model that another package brings, so that producers do without the package.

    Raises:
        BadChunking: it cannot cut every text into chunks of its size.
        ModelNotFound, ExtraMissing: the tokenizer is not at hand.
    """
    if is_plugin_space(space) and not chunking.tokenizer:
        chunking = replace(chunking, tokenizer=tokenizer_name(space))
    counter = counter_for(space, chunking)
    chunker = Chunker(space, chunking, counter)
    smallest = max(reading.tokens for reading in counter.read(_DENSE_CHARACTERS))
    if chunker.limit < smallest:
        raise BadChunking(reason=f"the document prompt leaves no room in {space.name}")
    # Of a chunk with a template, half is there for its context.
    needed = 2 * smallest if chunker.template else smallest
    if chunker.size < needed:
        reason = (
            f"size {chunker.size} is less than the {needed} tokens that a single character can "
            f"have{' twice' * bool(chunker.template)}: choose {needed} to {chunker.limit}"
        )
        raise BadChunking(reason=reason)
    return replace(chunking, size=chunker.size) if chunking.size is None else chunking


def _check_numbers(chunking: Chunking) -> None:
    given = (0 if chunking.size is None else chunking.size, chunking.overlap)
    if any(type(tokens) is not int or not 0 <= tokens <= MOST_TOKENS for tokens in given):
        reason = f"size and overlap are whole numbers of tokens from 0 to {MOST_TOKENS:,}"
        raise BadChunking(reason=reason)


def _check(space: Space, chunking: Chunking, limit: int, size: int) -> None:
    if limit < 1:
        raise BadChunking(reason=f"the document prompt leaves no room in {space.name}")
    if size > limit:
        reason = (
            f"size {size} is more than the {limit} tokens that {space.name} takes of a text (its "
            f"{space.max_tokens} include special tokens and the prompt): choose {limit} or less"
        )
        raise BadChunking(reason=reason)
    if chunking.overlap >= size:
        reason = (
            f"overlap {chunking.overlap} is not smaller than size {size}: choose 0 to {size - 1}"
        )
        raise BadChunking(reason=reason)
    _check_choice("mode", chunking.mode, get_args(ChunkMode))
    _check_choice("too_long", chunking.too_long, get_args(TooLong))


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise BadChunking(reason=f"{name} {value!r} is not one of {', '.join(choices)}")

"""Texts into chunks that the model takes whole, each with its offsets and its tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from embedfleet_producer.cutting import Cutter
from embedfleet_producer.tokens import TokenCounter
from embedfleet_schema.errors import BadChunking
from embedfleet_schema.types import Chunk, Chunking, ChunkMode, Space

# Of what a model takes, where its tokens are estimated: its own tokenizer may find a third more.
ESTIMATED_SHARE = 0.75

ChunkFunction = Callable[[str], Iterable[str | Chunk]]


@dataclass(frozen=True, slots=True)
class PreparedChunk:
    """A chunk and how many tokens its content has, special tokens and prompt not included."""

    chunk: Chunk
    tokens: int


class Chunker:
    """Cuts the texts of one collection.

    Of each chunk that it cuts, `text[start:end] == content`; content neither starts nor ends with
    whitespace, and has at most `size` tokens, unless it is a single character that has more. All
    of a text that is not whitespace is in some chunk.

    `limit` is what the model takes of a text: its maximum, less special tokens and document
    prompt. Only ready-made chunks can exceed it. Where tokens are estimated, the size that nobody
    chose stays a quarter below it.

    BERT's tokenizers have one unknown token for a word of more than a hundred characters, so a
    chunk can be far longer than its tokens tell. It is not cut smaller: the model sees one unknown
    word there, as it does in any program that embeds the text.

    Raises:
        BadChunking: size, overlap or mode cannot work with this model.
    """

    def __init__(self, space: Space, chunking: Chunking, counter: TokenCounter) -> None:
        self._counter = counter
        prompt = space.document_prompt
        self.added = counter.special_tokens + (counter.count([prompt])[0] if prompt else 0)
        self.approximate = counter.approximate
        self.limit = space.max_tokens - self.added
        whole = int(self.limit * ESTIMATED_SHARE) if counter.approximate else self.limit
        self.size = chunking.size or max(whole, 1)
        _check(space, chunking, self.limit, self.size)
        self._mode = chunking.mode
        self._cutter = Cutter(counter, self.size, chunking.overlap)

    def chunk(self, text: str, mode: ChunkMode | None = None) -> list[Chunk]:
        """The chunks of one text, in the collection's mode unless another is given."""
        return [prepared.chunk for prepared in self.chunk_many([text], [mode])[0]]

    def chunk_many(
        self, texts: Sequence[str], modes: Sequence[ChunkMode | None] | None = None
    ) -> list[list[PreparedChunk]]:
        """The chunks of each text. One that fits is tokenised once and never shown to a cutter."""
        done = self._whole(texts)
        rest = [index for index, text in enumerate(texts) if not done[index] and text.strip()]
        wanted = modes or [None] * len(texts)
        cuts = self._cutter.cut(
            [texts[index] for index in rest], [wanted[index] or self._mode for index in rest]
        )
        for index, spans in zip(rest, cuts, strict=True):
            text = texts[index]
            done[index] = [
                PreparedChunk(Chunk(text[start:end], start, end), tokens)
                for start, end, tokens in spans
            ]
        return done

    def chunk_with(self, cut: ChunkFunction, text: str) -> list[Chunk]:
        """The chunks that a caller's own function makes of a text.

        Raises:
            BadChunking: the function gives something else than strings and chunks.
        """
        return self.ready_made(cut(text), text)

    def ready_made(self, pieces: Iterable[str | Chunk], text: str | None = None) -> list[Chunk]:
        """A caller's own chunks as they are, without the empty ones.

        Where there is a text, offsets that do not hold in it are looked for, in the order of the
        chunks; a chunk that is not in the text keeps None.

        Raises:
            BadChunking: a piece is neither a string nor a chunk.
        """
        chunks = list(_as_chunks(pieces))
        return chunks if text is None else list(_located(chunks, text))

    def prepare(self, documents: Sequence[Sequence[Chunk]]) -> list[list[PreparedChunk]]:
        """Count the tokens of ready-made chunks, those of all documents at once."""
        contents = [chunk.content for chunks in documents for chunk in chunks]
        tokens = iter(self._counter.count(contents))
        return [[PreparedChunk(chunk, next(tokens)) for chunk in chunks] for chunks in documents]

    def _whole(self, texts: Sequence[str]) -> list[list[PreparedChunk]]:
        """One chunk for each text that fits; none for the others."""
        done: list[list[PreparedChunk]] = [[] for _ in texts]
        short = [index for index, text in enumerate(texts) if len(text) <= self._cutter.window]
        contents = [texts[index].strip() for index in short]
        for index, content, tokens in zip(
            short, contents, self._counter.count(contents), strict=True
        ):
            if content and tokens <= self.size:
                start = texts[index].index(content)
                done[index] = [PreparedChunk(Chunk(content, start, start + len(content)), tokens)]
        return done


def _check(space: Space, chunking: Chunking, limit: int, size: int) -> None:
    if chunking.size < 0 or chunking.overlap < 0:
        raise BadChunking(reason="size and overlap are numbers of tokens, 0 or more")
    if limit < 1:
        raise BadChunking(reason=f"the document prompt leaves no room in {space.name}")
    if chunking.size > limit:
        reason = (
            f"size {chunking.size} is more than the {limit} tokens that {space.name} takes of a "
            f"text (of its {space.max_tokens}, special tokens and prompt have the others)"
        )
        raise BadChunking(reason=reason)
    if chunking.overlap >= size:
        reason = f"overlap {chunking.overlap} is not smaller than size {size}"
        raise BadChunking(reason=reason)
    if chunking.mode not in get_args(ChunkMode):
        reason = f"mode {chunking.mode!r} is none of {', '.join(get_args(ChunkMode))}"
        raise BadChunking(reason=reason)


def _as_chunks(pieces: Iterable[str | Chunk]) -> Iterator[Chunk]:
    if isinstance(pieces, str) or not isinstance(pieces, Iterable):
        raise BadChunking(reason=f"chunks come as a list, not as {type(pieces).__name__}")
    for piece in pieces:
        chunk = Chunk(piece) if isinstance(piece, str) else piece
        if not isinstance(chunk, Chunk):
            raise BadChunking(reason=f"a chunk is a string or a Chunk, not {type(piece).__name__}")
        if chunk.content.strip():
            yield chunk


def _located(chunks: Iterable[Chunk], text: str) -> Iterator[Chunk]:
    search_from = 0
    for chunk in chunks:
        start: int | None = chunk.start
        if start is None or start < 0 or not text.startswith(chunk.content, start):
            found = text.find(chunk.content, search_from)
            start = found if found >= 0 else None
        if start is None:
            yield replace(chunk, start=None, end=None)
        else:
            search_from = start + 1
            yield replace(chunk, start=start, end=start + len(chunk.content))

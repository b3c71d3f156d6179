"""Counting tokens as the model does: with its own tokenizer where there is one, offline."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from string import punctuation
from typing import Protocol

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from embedfleet_producer.token_offsets import (
    SPACES,
    PartTokens,
    Reading,
    TokenOffsets,
    offsets_of,
)
from embedfleet_producer.words import WordEnds, WordMemory
from embedfleet_schema.catalogue import api_models
from embedfleet_schema.catalogue.api_models import API_PROVIDERS, CL100K
from embedfleet_schema.catalogue.hub import is_hub_name
from embedfleet_schema.catalogue.model_files import published_tokenizer, tokenizer_file
from embedfleet_schema.catalogue.plugins import (
    ESTIMATED_TOKEN,
    describe,
    is_plugin,
    is_plugin_space,
)
from embedfleet_schema.catalogue.space_lookup import parse_model
from embedfleet_schema.catalogue.vocabulary import cl100k
from embedfleet_schema.errors import ModelNotFound
from embedfleet_schema.types import Chunking, Space
from embedfleet_schema.unreadable import Unread, unknown_id, word_limit

log = logging.getLogger(__name__)

# A tokenizer's answer takes about a hundred bytes per token: what is asked at once is bounded.
_CHARACTERS_AT_ONCE = 500_000


class TokenCounter(Protocol):
    """Counts tokens without cutting or padding, special tokens not included.

    `approximate` says that it is not the model's own tokenizer, and a text may have more tokens.
    `word_limit`: a longer word is unknown, whatever is in it; None where words have any length.
    """

    approximate: bool
    word_limit: int | None

    @property
    def special_tokens(self) -> int:
        """How many tokens the model adds to each text."""
        ...

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """The tokens of each text."""
        ...

    def unread(self, texts: Sequence[str]) -> list[list[Unread]]:
        """The places in each text that are unknown; slower than `read`, for the few that have."""
        ...

    def offsets(self, texts: Sequence[str]) -> list[TokenOffsets]:
        """Where the tokens of each text end."""
        ...


class FileCounter:
    """Counts with a tokenizer of the Hugging Face library."""

    approximate = False

    def __init__(self, tokenizer: Tokenizer, *, separators: str | None = None) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.word_limit = word_limit(tokenizer)
        self._unknown = unknown_id(tokenizer)
        self._separators = _separators(tokenizer) if separators is None else separators
        self._words = WordMemory(self._separators, self._read_parts) if self._separators else None

    @property
    def special_tokens(self) -> int:
        return int(self.tokenizer.num_special_tokens_to_add(is_pair=False))

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """The tokens of each text; what the tokenizer has to read uses all cores, without the
        GIL.
        """
        return [reading for batch in _batches(texts) for reading in self._readings(batch)]

    def _readings(self, texts: Sequence[str]) -> Iterator[Reading]:
        words, left = self._looked_up(texts)
        read = iter(self.tokenizer.encode_batch_fast(left, add_special_tokens=False))
        unknown = self._unknown
        for each in words:
            if each is not None:
                yield Reading(sum(map(len, each)), 0)
                continue
            # One list of ids at a time: those of a whole batch are slower to make and to free.
            encoding = next(read)
            count = 0 if unknown is None else encoding.ids.count(unknown)
            yield Reading(len(encoding), count)

    def _looked_up(self, texts: Sequence[str]) -> tuple[list[list[WordEnds] | None], list[str]]:
        """The words of each text that need not be read, and the other texts."""
        if self._words is None:
            return [None] * len(texts), list(texts)
        words = self._words.look_up(texts)
        return words, [text for text, each in zip(texts, words, strict=True) if each is None]

    def unread(self, texts: Sequence[str]) -> list[list[Unread]]:
        return [
            [
                self._unread(text, encoding.token_to_chars(number))
                for number, token in enumerate(encoding.ids)
                if token == self._unknown
            ]
            for batch in _batches(texts)
            for text, encoding in zip(
                batch,
                self.tokenizer.encode_batch(batch, add_special_tokens=False),
                strict=True,
            )
        ]

    def _unread(self, text: str, place: tuple[int, int] | None) -> Unread:
        normalizer = self.tokenizer.normalizer
        # Only a token that was added to a text has no place in it, and none was.
        start, end = place or (0, len(text))
        word = text[start:end]
        return Unread(start, end, len(normalizer.normalize_str(word) if normalizer else word))

    def offsets(self, texts: Sequence[str]) -> list[TokenOffsets]:
        """Where the tokens of each text end; long texts use all cores, without the GIL."""
        return offsets_of(texts, self._part_tokens, self._separators)

    def _part_tokens(self, parts: Iterator[str]) -> Iterator[PartTokens]:
        for batch in _batches(parts):
            words, left = self._looked_up(batch)
            read = self._read_parts(iter(left))
            for part, each in zip(batch, words, strict=True):
                if each is None or self._words is None:
                    yield next(read)
                else:
                    yield PartTokens(self._words.ends(part, each))

    def _read_parts(self, parts: Iterator[str]) -> Iterator[PartTokens]:
        for batch in _batches(parts):
            for encoding in self.tokenizer.encode_batch(batch, add_special_tokens=False):
                ends = [end for _, end in encoding.offsets]
                ids = encoding.ids
                known = self._unknown not in ids
                unknown = () if known else [n for n, id_ in enumerate(ids) if id_ == self._unknown]
                yield PartTokens(ends, [ends[n] for n in unknown])


class FakeCounter(FileCounter):
    """Counts for the fake embedder, which reads every text, with a tokenizer that knows no word."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer, separators=SPACES + punctuation.replace("_", ""))
        self._unknown = None


class EstimatedCounter(FakeCounter):
    """Counts by a rule that English seldom exceeds, for models whose tokenizer nobody named."""

    approximate = True


class Cl100kCounter:
    """Counts with OpenAI's cl100k_base, exactly for its models, as an estimate for others.

    Raises:
        ExtraMissing: the vocabulary is not installed.
    """

    special_tokens = 0
    word_limit: int | None = None

    def __init__(self, *, approximate: bool = False) -> None:
        self.approximate = approximate
        self._vocabulary = cl100k()

    def read(self, texts: Sequence[str]) -> list[Reading]:
        return [Reading(self._vocabulary.count(text), 0) for text in texts]

    def unread(self, texts: Sequence[str]) -> list[list[Unread]]:
        return [[] for _ in texts]

    def offsets(self, texts: Sequence[str]) -> list[TokenOffsets]:
        return offsets_of(
            texts, lambda parts: (PartTokens(self._vocabulary.ends(part)) for part in parts)
        )


def counter_for(space: Space, chunking: Chunking) -> TokenCounter:
    """The counter of the chunking's tokenizer, or of the model's own; kept for the process.

    A model behind an API whose tokenizer is not public, or not within reach, is counted with
    cl100k_base, and one of another package that names no tokenizer by a rule; then the counter
    says that it is `approximate`.

    Raises:
        BadModelName: the tokenizer's name cannot be a model's.
        ModelNotFound: there is no such tokenizer within reach.
        ExtraMissing: the tokenizer is OpenAI's, and bpe-openai is not installed.
    """
    if is_plugin_space(space):
        return _of_plugin(space, chunking.tokenizer)
    return _counter(chunking.tokenizer or space.name)


@lru_cache(maxsize=16)
def _counter(name: str) -> TokenCounter:
    if name == CL100K:
        return Cl100kCounter()
    path = Path(name).expanduser()
    if path.is_file():
        return _from_file(name, path)
    provider, model = parse_model(name)
    if provider == "fake":
        return FakeCounter(_fake_tokenizer())
    if provider in API_PROVIDERS:
        return _of_api(provider, model)
    if is_plugin(provider):
        return _from_plugin(provider, model)
    return _from_file(name, tokenizer_file(model))


def _of_plugin(space: Space, tokenizer: str) -> TokenCounter:
    """By what was stored with the collection: only a tokenizer inside the package needs that."""
    if tokenizer == space.name:
        return _from_plugin(space.provider, space.model)
    return _counter(tokenizer) if tokenizer else _estimated()


@lru_cache(maxsize=16)
def _from_plugin(provider: str, model: str) -> TokenCounter:
    found = describe(provider, model).tokenizer
    if isinstance(found, Path):
        return _from_file(f"{provider}/{model}", found)
    return _counter(found) if found else _estimated()


@lru_cache(maxsize=1)
def _estimated() -> TokenCounter:
    return EstimatedCounter(_splitting(ESTIMATED_TOKEN))


def _of_api(provider: str, model: str) -> TokenCounter:
    entry = api_models.find(provider, model)
    if entry is not None and entry.tokenizer == CL100K:
        return Cl100kCounter()
    # Servers that speak OpenAI's protocol name a model by its repository, where it has one.
    unknown = model if entry is None and "/" in model and is_hub_name(model) else None
    repository = entry.tokenizer if entry is not None else unknown
    if repository is None:
        log.info("%s/%s has no public tokenizer: its tokens are estimated", provider, model)
        return Cl100kCounter(approximate=True)
    try:
        return _from_file(repository, published_tokenizer(repository))
    except ModelNotFound as error:
        text = "tokens of %s/%s are estimated, its tokenizer is not within reach: %s"
        log.warning(text, provider, model, error.reason)
        return Cl100kCounter(approximate=True)


def _from_file(name: str, path: Path) -> FileCounter:
    try:
        return FileCounter(Tokenizer.from_file(str(path)))
    except Exception as error:
        # The library knows no narrower class for a file that it does not understand.
        reason = f"{path} is not a tokenizer: {error}"
        raise ModelNotFound(model=name, reason=reason) from error


def _separators(tokenizer: Tokenizer) -> str:
    """Characters at which a text can be cut without a change of the tokens on either side.

    BERT and its kin have them. Others put the space into the first token of a word.
    """
    normalizer = tokenizer.normalizer
    tokens = tokenizer.get_added_tokens_decoder().values()
    added = "".join(token.content for token in tokens)
    if (
        not isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        or not (normalizer is None or isinstance(normalizer, normalizers.BertNormalizer))
        or any(map(str.isspace, added))
        # These look at what is beside them.
        or any(token.lstrip or token.rstrip or token.single_word for token in tokens)
    ):
        return ""
    return SPACES + "".join(mark for mark in punctuation if mark not in added)


def _fake_tokenizer() -> Tokenizer:
    """A token for each punctuation mark, and for each 16 letters of a word."""
    return _splitting(r"\w{1,16}|[^\w\s]")


def _splitting(token: str) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106
    pieces = Regex(token)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, behavior="removed", invert=True)
    return tokenizer


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch

"""Counting tokens with the tokenizer that the model itself uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from embedfleet_schema.errors import ModelNotFound
from embedfleet_schema.model_files import tokenizer_file
from embedfleet_schema.spaces import parse_model
from embedfleet_schema.types import Chunking, Space

# A tokenizer's answer takes about a hundred bytes per token: what is asked at once is bounded.
_CHARACTERS_AT_ONCE = 500_000


class TokenCounter:
    """Counts tokens as the model does, without cutting or padding; special tokens not included."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer

    @property
    def special_tokens(self) -> int:
        """How many tokens the model adds to each text."""
        return int(self.tokenizer.num_special_tokens_to_add(is_pair=False))

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text; a long list uses all cores, without the GIL."""
        return [
            len(encoding)
            for batch in _batches(texts)
            for encoding in self.tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        ]


def counter_for(space: Space, chunking: Chunking) -> TokenCounter:
    """The counter of the chunking's tokenizer, or of the model's own; kept for the process.

    Raises:
        BadModelName: the tokenizer's name cannot be a model's.
        ModelNotFound: there is no such tokenizer within reach.
    """
    return _counter(chunking.tokenizer or space.name)


@lru_cache(maxsize=16)
def _counter(name: str) -> TokenCounter:
    path = Path(name).expanduser()
    if not path.is_file():
        provider, model = parse_model(name)
        if provider == "fake":
            return TokenCounter(_fake_tokenizer())
        if provider != "local":
            reason = "its provider has no tokenizer file; name a local one in the chunking"
            raise ModelNotFound(model=name, reason=reason)
        path = tokenizer_file(model)
    try:
        return TokenCounter(Tokenizer.from_file(str(path)))
    except Exception as error:
        # The library knows no narrower class for a file that it does not understand.
        reason = f"{path} is not a tokenizer: {error}"
        raise ModelNotFound(model=name, reason=reason) from error


def _fake_tokenizer() -> Tokenizer:
    """A token for each punctuation mark, and for each 16 letters of a word."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106
    pieces = Regex(r"\w{1,16}|[^\w\s]")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, behavior="removed", invert=True)
    return tokenizer


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
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

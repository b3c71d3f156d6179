"""OpenAI's vocabulary, from a wheel: producers cut by it, workers estimate requests by it."""

from __future__ import annotations

from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from itertools import groupby
from types import ModuleType
from typing import Protocol

from embedfleet_schema.catalogue.api_models import CL100K
from embedfleet_schema.errors import ExtraMissing


class _Tokenizer(Protocol):
    def count(self, text: str) -> int: ...
    def encode(self, text: str) -> list[int]: ...
    def decode(self, tokens: list[int]) -> str: ...


class Vocabulary:
    """cl100k_base, the vocabulary of embeddings. About 15 MB/s on one core, with the GIL held.

    What looks like a special token (`<|endoftext|>`) is the text that it is: so the API reads it.
    """

    def __init__(self, tokenizer: _Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lengths: dict[int, int] = {}

    def count(self, text: str) -> int:
        """The tokens of a text."""
        return self._tokenizer.count(text)

    def ends(self, text: str) -> list[int]:
        """Where each token of a text ends, in characters.

        Of scripts that the vocabulary does not know, tokens are parts of characters. Those side by
        side share the characters that they make evenly.
        """
        ends: list[int] = []
        at = 0
        for length, run in groupby(self._tokenizer.encode(text), self._length):
            tokens = list(run)
            characters = length * len(tokens) if length else len(self._tokenizer.decode(tokens))
            ends += [at + -(-characters * n // len(tokens)) for n in range(1, len(tokens) + 1)]
            at += characters
        return ends

    def _length(self, token: int) -> int:
        """How many characters a token stands for; 0 if it is a part of one."""
        known = self._lengths.get(token)
        if known is None:
            try:
                known = len(self._tokenizer.decode([token]))
            except ValueError:
                known = 0
            self._lengths[token] = known
        return known


@cache
def cl100k() -> Vocabulary:
    """The vocabulary, read once for the process.

    It is the package's Rust module itself: the Python in front of it refuses texts of a million
    characters, and makes lists where only their length is wanted.

    Raises:
        ExtraMissing: bpe-openai is not installed.
    """
    try:
        tokenizer_for_encoding = _module().tokenizer_for_encoding
    except ImportError as error:
        raise ExtraMissing(
            feature="counting tokens of models behind an API", extra="api"
        ) from error
    return Vocabulary(tokenizer_for_encoding(CL100K))


def _module() -> ModuleType:
    """The Rust module without the package around it, which takes half a second to read three
    vocabularies of its own.
    """
    package = find_spec("bpe_openai")
    places = package.submodule_search_locations if package else None
    found = PathFinder.find_spec("bpe_openai._bindings", places) if places else None
    if found is None or found.loader is None:
        raise ModuleNotFoundError(name="bpe_openai")
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module

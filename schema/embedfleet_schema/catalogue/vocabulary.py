"""OpenAI's vocabulary, from a wheel: producers cut by it, workers estimate requests by it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType

from embedfleet_schema.catalogue.api_models import CL100K
from embedfleet_schema.errors import ExtraMissing


@cache
def cl100k_count() -> Callable[[str], int]:
    """A function that counts the tokens of a text in cl100k_base, the vocabulary of embeddings.

    What looks like a special token (`<|endoftext|>`) is counted as the text that it is: so the API
    reads it. About 15 MB/s on one core, with the GIL held. It is the package's Rust module itself:
    the Python in front of it refuses texts of a million characters, and makes lists where only
    their length is wanted.

    Raises:
        ExtraMissing: bpe-openai is not installed.
    """
    try:
        tokenizer_for_encoding = _module().tokenizer_for_encoding
    except ImportError as error:
        raise ExtraMissing(
            feature="counting tokens of models behind an API", extra="api"
        ) from error
    count: Callable[[str], int] = tokenizer_for_encoding(CL100K).count
    return count


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

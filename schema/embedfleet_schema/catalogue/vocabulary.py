"""OpenAI's vocabulary, from a wheel: producers cut by it, workers estimate requests by it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

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
    # The package reads its data through a function that Python 3.11 deprecates. The filter stays:
    # to take it back could take back filters that other threads set meanwhile.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"bpe_openai\.")
    try:
        from bpe_openai._bindings import tokenizer_for_encoding
    except ImportError as error:
        raise ExtraMissing(
            feature="counting tokens of models behind an API", extra="api"
        ) from error
    count: Callable[[str], int] = tokenizer_for_encoding(CL100K).count
    return count

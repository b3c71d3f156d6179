"""How many tokens texts are, before the provider has said so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from embedfleet_schema.catalogue.api_models import CL100K
from embedfleet_schema.catalogue.vocabulary import cl100k
from embedfleet_workers.embedding_errors import InputAtFault

# Of English text, in vocabularies of about 100,000.
BYTES_PER_TOKEN = 4
# What is kept of older answers with each new one, and what stands for them at first.
_KEPT = 0.9
_PRIOR_TOKENS = 1_000.0
_LEAST, _MOST = 0.2, 5.0

Counter = Callable[[Sequence[str]], list[int]]


def encoded(text: str) -> bytes:
    """The text's UTF-8 bytes.

    Raises:
        InputAtFault: it holds half of a surrogate pair, which no provider can be sent.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InputAtFault(reason=f"it is not Unicode text: {error.reason}") from error


def estimate(texts: Sequence[str]) -> list[int]:
    """Tokens by the length of the texts: for providers whose tokenizer is not at hand."""
    return [-(-len(encoded(text)) // BYTES_PER_TOKEN) for text in texts]


def counter(tokenizer: str | None) -> Counter:
    """Exact counts in OpenAI's vocabulary, offline; estimates for all others.

    Raises:
        ExtraMissing: the vocabulary is not installed.
    """
    if tokenizer != CL100K:
        return estimate
    count = cl100k().count

    def exact(texts: Sequence[str]) -> list[int]:
        for text in texts:
            encoded(text)
        return [count(text) for text in texts]

    return exact


class Calibration:
    """The ratio of the tokens that answers state to those that were estimated, newest first.

    Large requests count for more: a query of three tokens says little.
    """

    def __init__(self) -> None:
        self._stated = self._estimated = _PRIOR_TOKENS

    def scaled(self, tokens: Sequence[int]) -> list[int]:
        """Estimates, corrected; each at least 1."""
        ratio = min(max(self._stated / self._estimated, _LEAST), _MOST)
        return [max(1, round(count * ratio)) for count in tokens]

    def corrected(self, count: int) -> int:
        return self.scaled([count])[0]

    def learn(self, estimated: int, stated: int) -> None:
        """Of one answered request; `estimated` is the sum before it was corrected."""
        if estimated > 0 and stated > 0:
            self._estimated = _KEPT * self._estimated + estimated
            self._stated = _KEPT * self._stated + stated

"""What every reranker can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Reranker(Protocol):
    """Scores texts against a query. Safe to call from several threads."""

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """A finite score for each text, in their order: the larger, the better it fits the query.

        Raises:
            RerankFailed: no usable scores came.
            EmbedderBusy: the rate limit of its provider leaves no room now.
        """
        ...

    def close(self) -> None:
        """Give back memory. Closing twice is harmless."""
        ...

"""A claimed batch, as whoever works on it sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from embedfleet_schema.turns import Lane
from embedfleet_schema.types import CollectionInfo


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed batch: `texts[i]` is what still needs a vector, `text_ids[i]` its number.

    `attempt` fences every write; `errors` is how often the batch failed by its own fault before.
    `bounds[i]` is how many tokens the job's budget pays for text i; None where it has no budget.
    `others` are collections of the space that may have vectors of its texts. `waited_s` is its age,
    and `traceparent` the trace of its job, as W3C writes it.
    """

    id: int
    attempt: int
    errors: int
    job_id: int
    collection: CollectionInfo
    tokens: int
    text_ids: list[int]
    texts: list[str]
    bounds: list[int] | None = None
    others: Sequence[int] = ()
    lane: Lane = "bulk"
    waited_s: float = 0.0
    traceparent: str | None = None

    def with_bounds(self, bounds: list[int]) -> Self:
        return replace(self, bounds=bounds)

    def only(self, rows: Sequence[int]) -> Self:
        """The same lease of some of its texts."""
        return replace(
            self,
            tokens=self.tokens * len(rows) // max(1, len(self.text_ids)),
            text_ids=[self.text_ids[row] for row in rows],
            texts=[self.texts[row] for row in rows],
            bounds=None if self.bounds is None else [self.bounds[row] for row in rows],
        )

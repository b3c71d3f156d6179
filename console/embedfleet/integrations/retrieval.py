"""What the retrievers for other libraries have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from embedfleet_schema.hits import Hit

if TYPE_CHECKING:
    from embedfleet.collection import Collection


def hits(
    collection: Collection,
    question: str,
    *,
    k: int,
    where: Mapping[str, Any] | None,
    min_score: float | None,
    hybrid: bool,
) -> list[Hit]:
    """What `Collection.hybrid_search` finds, which knows no least score, or `Collection.search`."""
    if hybrid:
        return collection.hybrid_search(question, k=k, where=where)
    return collection.search(question, k=k, where=where, min_score=min_score)

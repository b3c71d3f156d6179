"""Rankings of documents, which are what judgements are about: each counts by its best chunk."""

from __future__ import annotations

from collections.abc import Iterable

from embedfleet.connections import Connections
from embedfleet_schema.store import related
from embedfleet_schema.types import CollectionInfo

# As many chunks as this are asked for to get a document, and then four times as many.
_CHUNKS_PER_DOCUMENT, _MORE = 2, 4


def ranking(
    connections: Connections, collection: CollectionInfo, query: str, *, k: int, hybrid: bool
) -> list[str]:
    """The keys of the `k` documents that a search finds, best first.

    Raises:
        UnreadableQuery: it is blank, or the model knows none of its words.
    """
    vector = connections.query_vectors.vector(collection, query)
    if not hybrid:
        found = related.nearest_documents(connections.db, collection, vector, k=k)
        return [hit.document for hit in found]
    wanted = _CHUNKS_PER_DOCUMENT * k
    while True:
        options: dict[str, object] = {
            "k": wanted,
            "language": None,
            "text_weight": 1.0,
            "vector_weight": 1.0,
            "constant": 60,
        }
        hits = related.hybrid_search(
            connections.db, collection, query, vector, where=None, options=options
        )
        documents = _each_once(hit.document for hit in hits)
        if len(documents) >= k or len(hits) < wanted:
            return documents[:k]
        wanted *= _MORE


def _each_once(keys: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(keys))

"""Searches beside the one by vector: words and vectors, hits that differ, documents like another,
pairs of chunks; and the chunks of documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedfleet import arguments
from embedfleet.error_translation import translate_errors
from embedfleet.maintenance import Maintenance
from embedfleet_schema.hits import DuplicatePair, Hit, SimilarDocument
from embedfleet_schema.store import related, search
from embedfleet_schema.store.search import StoredChunk

Vector = NDArray[np.float32] | Sequence[float]


@translate_errors
class RelatedSearches(Maintenance):
    """The part of `Collection` that finds by more than a vector."""

    def hybrid_search(
        self,
        text: str,
        *,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        language: str | None = None,
        text_weight: float = 1.0,
        vector_weight: float = 1.0,
        constant: int = 60,
    ) -> list[Hit]:
        """The `k` chunks that words and meaning find together, by reciprocal rank.

        `score` is the fused one: compare it within one search only. An index on the words makes it
        fast: `index_words`.

        Args:
            language: a text search configuration of PostgreSQL, such as english; default: that of
                the index on words, or `simple`.
            text_weight: how much the list that the words give counts.
            vector_weight: how much that of the vectors counts.
            constant: the larger, the less the first ranks count more than the next ones.
        """
        call = "hybrid_search"
        arguments.whole(call, "k", k)
        arguments.whole(call, "constant", constant)
        arguments.where(where, call)
        arguments.words(call, language=language)
        arguments.score(call, "text_weight", text_weight)
        arguments.score(call, "vector_weight", vector_weight)
        arguments.text(call, "text", text)
        options: dict[str, object] = {
            "k": k,
            "language": language,
            "text_weight": text_weight,
            "vector_weight": vector_weight,
            "constant": constant,
        }
        db = self._connections.db
        return self._following(
            lambda: related.hybrid_search(
                db, self.info, text, self._vector(text), where=where, options=options
            )
        )

    def reranked(self, query: str | Vector, hits: Sequence[Hit], model: str) -> list[Hit]:
        """Hits of any search in the order that a reranker gives them for a text, with its scores.

        Raises:
            RerankFailed: the model gave no scores.
        """
        arguments.text("search", "query", query)
        return [*self._connections.rerankers.reranked(hits, str(query), model)]

    def chunks(self, keys: Sequence[str]) -> list[StoredChunk]:
        """What readers see of some documents, by document and position. A document that is not
        there, or not live, has none.
        """
        wanted = arguments.texts("chunks", "keys", keys, '["vpn.md"]')
        db = self._connections.db
        return self._following(lambda: search.chunks(db, self.info, wanted))

    def diverse(
        self,
        query: str | Vector,
        *,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        weight: float = 0.5,
        candidates: int = 50,
    ) -> list[Hit]:
        """`k` hits near to the question and not near to each other, by maximal marginal relevance.

        Args:
            query, where: as in `search`.
            weight: 1 is the search itself; 0 looks only at how the hits differ.
            candidates: how many of the nearest chunks they are chosen from.
        """
        call = "diverse"
        arguments.whole(call, "k", k)
        arguments.whole(call, "candidates", candidates)
        arguments.share(call, "weight", weight)
        arguments.where(where, call)
        db = self._connections.db
        return self._following(
            lambda: related.diverse(
                db,
                self.info,
                self._vector(query),
                k=k,
                where=where,
                weight=weight,
                candidates=candidates,
            ),
            query,
        )

    def similar(
        self, key: str, *, k: int = 10, threshold: float | None = None
    ) -> list[SimilarDocument]:
        """The `k` documents most like a document, by the best pair of their chunks.

        Args:
            threshold: leave out what scores less.

        Raises:
            UsageError: there is no such document, or it is not live.
        """
        arguments.text("similar", "key", key)
        arguments.whole("similar", "k", k)
        arguments.score("similar", "threshold", threshold)
        db = self._connections.db
        return self._following(
            lambda: related.similar(db, self.info, key, k=k, threshold=threshold)
        )

    def duplicates(
        self, threshold: float = 0.95, *, exact: bool | None = None
    ) -> list[DuplicatePair]:
        """Pairs of chunks that score at least `threshold`, by clusters of what hangs together.

        With at most 5,000 vectors or `exact`, each is compared with each. Otherwise the HNSW index
        finds the neighbours of each vector: that takes some milliseconds for each.

        Raises:
            UsageError: there are more vectors, and no index.
        """
        arguments.score("duplicates", "threshold", threshold)
        if exact is not None:
            arguments.flag("duplicates", "exact", exact)
        db = self._connections.db
        return self._following(
            lambda: related.duplicates(db, self.info, threshold=threshold, exact=exact)
        )

    def _vector(self, query: str | Vector) -> NDArray[np.float32]:
        if isinstance(query, str):
            arguments.text("search", "query", query)
            return self._connections.query_vectors.vector(self.info, query)
        return arguments.vector(self.info.space.name, query)

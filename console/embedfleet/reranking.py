"""The second look: hits of a search in the order that a reranker gives them."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from embedfleet_schema.errors import BadModelName, ModelRefused
from embedfleet_schema.hits import Hit, RerankedHit

if TYPE_CHECKING:
    from embedfleet.connections import Connections
    from embedfleet_workers.rerankers.reranker import Reranker

RERANK_TOP = 50


class Rerankers:
    """The rerankers of one process, loaded on first use. Safe to share between threads."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._lock = threading.Lock()
        self._loaded: dict[str, Reranker] = {}

    def reranked(self, hits: Sequence[Hit], query: str, model: str) -> list[RerankedHit]:
        """All of the hits, those first that fit the query best; equals in the order that they had.

        Raises:
            BadModelName, ModelNotFound, ModelRefused, ExtraMissing, KeyMissing: it cannot be had.
            RerankFailed, EmbedderBusy: it gave no scores.
        """
        reranker = self._reranker(model)
        scores = reranker.scores(query, [hit.content for hit in hits])
        found = [
            RerankedHit(
                hit.id, hit.document, hit.position, hit.content, hit.metadata, hit.score, score
            )
            for hit, score in zip(hits, scores, strict=True)
        ]
        return sorted(found, key=lambda hit: -hit.rerank_score)

    def close(self) -> None:
        with self._lock:
            loaded, self._loaded = self._loaded, {}
        for each in loaded.values():
            each.close()

    def _reranker(self, model: str) -> Reranker:
        with self._lock:
            if model not in self._loaded:
                self._loaded[model] = self._load(model)
            return self._loaded[model]

    def _load(self, name: str) -> Reranker:
        from embedfleet_schema.catalogue.space_lookup import parse_model
        from embedfleet_workers.rerankers.api_reranker import PATHS

        provider, model = parse_model(name)
        allowed = self._connections.settings.allowed_models
        full = f"{provider}/{model}"
        if allowed and not any(fnmatch.fnmatchcase(full, pattern) for pattern in allowed):
            raise ModelRefused(model=full, reason=f"only {', '.join(allowed)} may be loaded here")
        if provider in PATHS:
            return self._connections.api_reranker(provider, model)
        if provider != "local":
            known = ", ".join(f"{each}/..." for each in PATHS)
            reason = f"rerankers are local cross-encoders, and {known}"
            raise BadModelName(name=name, reason=reason)
        from embedfleet_workers.rerankers.local_reranker import LocalReranker

        self._connections.tell(f"Loading the reranker {model} here.")
        return LocalReranker(model)

"""What a client holds: its settings, its database, its doorbell, its models for queries."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from embedfleet.query_texts import check_read
from embedfleet.query_vectors import QueryVectors
from embedfleet.reranking import Rerankers
from embedfleet_schema.broker import Doorbell, celery_app
from embedfleet_schema.catalogue.api_models import API_PROVIDERS
from embedfleet_schema.catalogue.plugins import describe, is_plugin_space
from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import NotPermitted
from embedfleet_schema.errors import (
    EmbedfleetError,
    ExtraMissing,
    KeyMissing,
    NotAnswered,
    QueryRefused,
)
from embedfleet_schema.forks import leave_to_parent, renewed_after_fork
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import query_requests
from embedfleet_schema.types import CollectionInfo, Queue, Space

if TYPE_CHECKING:
    from embedfleet_workers.embedder_cache import EmbedderCache
    from embedfleet_workers.embedders.protocol import Embedder
    from embedfleet_workers.rerankers.reranker import Reranker

log = logging.getLogger(__name__)

# A producer waits this long for Redis, not longer: its documents are in PostgreSQL by then.
SOCKET_TIMEOUT_S = 3.0


class Connections:
    """Opened on first use, shared by threads, given back by `close` or at the end of a `with`.

    A forked child starts anew: connections, threads and models stay with the parent.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # Read now: nothing is stored before it is known whom to tell.
        self._redis_url = settings.redis
        self.db = Database(
            settings.database,
            direct_url=settings.direct_database,
            max_connections=settings.max_connections,
            lock_wait_s=settings.lock_wait_seconds,
        )
        self.query_vectors = QueryVectors(self.db, self._embed_query)
        self.rerankers = Rerankers(self)
        # Is told what takes long and a person may wonder about.
        self.tell: Callable[[str], object] = log.info
        self._doorbell: Doorbell | None = None
        self._cache: EmbedderCache | None = None
        self._lock = threading.Lock()
        renewed_after_fork(self, "_renew")

    @property
    def doorbell(self) -> Doorbell:
        with self._lock:
            if self._doorbell is None:
                app = celery_app(self._redis_url, socket_timeout_s=SOCKET_TIMEOUT_S)
                self._doorbell = Doorbell(app)
            return self._doorbell

    def query_embedder(self, space: Space) -> Embedder:
        """The embedder of a space in this process, loaded once: it turns queries into vectors.

        Raises:
            ModelRefused: among others, where it is not the model that workers embed with.
        """
        # A space behind an API draws on the same limits as the workers.
        return self._embedders().get(space, "cpu")

    def api_reranker(self, provider: str, model: str) -> Reranker:
        """A reranker behind an API, within the limits of the workers."""
        return self._embedders().api_reranker(provider, model)

    def queue_for(self, space: Space) -> Queue:
        """Whose workers embed a space, where nobody chose."""
        if space.provider == "local":
            return self.settings.local_queue
        if is_plugin_space(space):
            return describe(space.provider, space.model, space.dimensions).queue
        return "cpu" if space.provider == "fake" else "api"

    def close(self) -> None:
        """Give back connections and models."""
        with self._lock:
            cache, self._cache = self._cache, None
        if self._doorbell is not None:
            self._doorbell.close()
        self.rerankers.close()
        if cache is not None:
            cache.close(models=True)
        self.db.close()

    def _renew(self) -> None:
        self._lock = threading.Lock()
        leave_to_parent(self._cache)
        self._cache = None
        self.query_vectors = QueryVectors(self.db, self._embed_query)
        self.rerankers = Rerankers(self)

    def _embed_query(self, collection: CollectionInfo, text: str) -> NDArray[np.float32]:
        """Here, where nothing has to be loaded for it; else by a worker, or here all the same."""
        space = collection.space
        unanswered: EmbedfleetError | None = None
        if not self._is_at_hand(space):
            try:
                return query_requests.vector_of(self.db, collection, text)
            except QueryRefused:
                check_read(collection, text)
                raise
            except (NotAnswered, NotPermitted) as error:
                unanswered = error
            if space.provider not in API_PROVIDERS:
                self.tell(f"{_first_sentence(unanswered)} Loading {space.name} here.")
        if space.provider not in API_PROVIDERS:
            check_read(collection, text)
        try:
            (vector,) = self.query_embedder(space).embed([text], "query")
        except ExtraMissing as missing:
            raise unanswered or missing from missing
        return np.asarray(vector, dtype=np.float32)

    def _is_at_hand(self, space: Space) -> bool:
        """Whether this process embeds at once: its model is loaded, or is behind an API whose key
        is known here.
        """
        if space.provider == "local" or is_plugin_space(space):
            with self._lock:
                cache = self._cache
            return cache is not None and space in cache.loaded()
        if space.provider not in API_PROVIDERS:
            return True
        try:
            self.query_embedder(space)
        except (KeyMissing, ExtraMissing):
            return False
        return True

    def _embedders(self) -> EmbedderCache:
        from embedfleet_workers.embedder_cache import EmbedderCache

        with self._lock:
            if self._cache is None:
                # Whoever searches has nothing to say about what the model is: it records nothing.
                self._cache = EmbedderCache(
                    self.settings, self.db, threads=self.settings.torch_threads, records=False
                )
            return self._cache

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _first_sentence(error: Exception) -> str:
    return str(error).partition(". ")[0].rstrip(".") + "."

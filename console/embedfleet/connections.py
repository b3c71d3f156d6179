"""What a client holds: its settings, its database, its doorbell, its models for queries."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from embedfleet.queries import QueryVectors
from embedfleet_schema.broker import Doorbell, celery_app
from embedfleet_schema.catalogue import API_PROVIDERS
from embedfleet_schema.database import Database
from embedfleet_schema.forks import leave_to_parent, renewed_after_fork
from embedfleet_schema.settings import Settings
from embedfleet_schema.store.workers import alive_seconds
from embedfleet_schema.types import CollectionInfo, Space

if TYPE_CHECKING:
    from embedfleet_workers.embedders.api.access import ApiAccess
    from embedfleet_workers.embedders.protocol import Embedder

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
            max_connections=settings.max_connections,
            lock_wait_s=settings.lock_wait_seconds,
        )
        self.query_vectors = QueryVectors(self.db, self._embed_query)
        self._embedders: dict[bytes, Embedder] = {}
        self._doorbell: Doorbell | None = None
        self._api: ApiAccess | None = None
        self._lock = threading.Lock()
        renewed_after_fork(self, "_renew")

    @property
    def alive_seconds(self) -> float:
        """How long after its last heartbeat a worker counts as alive."""
        return alive_seconds(self.settings.heartbeat_seconds)

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
        from embedfleet_workers.selfcheck import checked_embedder

        with self._lock:
            if space.fingerprint not in self._embedders:
                # Whoever searches has nothing to say about what the model is.
                self._embedders[space.fingerprint] = checked_embedder(
                    self.db,
                    space,
                    lambda: self._load(space),
                    allowed_models=self.settings.allowed_models,
                    records=False,
                )
            return self._embedders[space.fingerprint]

    def _load(self, space: Space) -> Embedder:
        from embedfleet_workers.embedders import load_embedder

        return load_embedder(
            space,
            device="cpu",
            threads=self.settings.torch_threads,
            allowed_models=self.settings.allowed_models,
            api=self._access() if space.provider in API_PROVIDERS else None,
        )

    def close(self) -> None:
        """Give back connections and models."""
        with self._lock:
            embedders, self._embedders = list(self._embedders.values()), {}
            api, self._api = self._api, None
        for embedder in embedders:
            embedder.close()
        if api is not None:
            api.close()
        self.db.close()

    def _renew(self) -> None:
        self._lock = threading.Lock()
        leave_to_parent(self._embedders, self._api)
        self._embedders, self._api = {}, None
        self.query_vectors = QueryVectors(self.db, self._embed_query)

    def _embed_query(self, collection: CollectionInfo, text: str) -> NDArray[np.float32]:
        (vector,) = self.query_embedder(collection.space).embed([text], "query")
        return np.asarray(vector, dtype=np.float32)

    def _access(self) -> ApiAccess:
        """For queries: they draw on the same limits as the workers. The caller has the lock."""
        from embedfleet_workers.embedders.api.access import open_access

        if self._api is None:
            self._api = open_access(self.settings, self.db)
        return self._api

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

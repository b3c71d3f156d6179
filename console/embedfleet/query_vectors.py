"""From the text of a query to its vector: remembered here, then in the database, else embedded."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg_pool import PoolTimeout

from embedfleet.query_texts import check_visible
from embedfleet_schema.catalogue.api_models import API_PROVIDERS
from embedfleet_schema.database import Database
from embedfleet_schema.errors import EmbedfleetError
from embedfleet_schema.store import query_cache
from embedfleet_schema.types import CollectionInfo

log = logging.getLogger(__name__)

Vector = NDArray[np.float32]

# 25 MB of vectors of 1,536 dimensions.
REMEMBERED = 4_096


class QueryVectors:
    """The vectors of queries of one process. Safe to share between threads.

    Those of an API are also kept in the database, where the next process finds them: a call takes
    hundreds of milliseconds and money. A model of this machine is as quick as the database.
    """

    def __init__(self, db: Database, embed: Callable[[CollectionInfo, str], Vector]) -> None:
        self._db = db
        self._embed = embed
        self._lock = threading.Lock()
        self._recent: OrderedDict[tuple[int, str], Vector] = OrderedDict()

    def vector(self, collection: CollectionInfo, text: str) -> Vector:
        """The vector of a query, float32 of shape (dimensions,), not to be written to.

        Raises:
            UnreadableQuery: it is blank, or the model knows none of its words.
        """
        check_visible(text)
        key = (collection.space_id, text)
        with self._lock:
            if key in self._recent:
                self._recent.move_to_end(key)
                return self._recent[key]
        vector = self._look_up(collection, text)
        vector.setflags(write=False)
        with self._lock:
            self._recent[key] = vector
            while len(self._recent) > REMEMBERED:
                self._recent.popitem(last=False)
        return vector

    def _look_up(self, collection: CollectionInfo, text: str) -> Vector:
        if collection.space.provider not in API_PROVIDERS:
            return self._embed(collection, text)
        known = self._tried(lambda: query_cache.find(self._db, collection.space_id, text))
        if known is not None and known.shape == (collection.space.dimensions,):
            return known
        vector = self._embed(collection, text)
        self._tried(lambda: query_cache.remember(self._db, collection.space_id, text, vector))
        return vector

    def _tried(self, ask: Callable[[], Vector | None]) -> Vector | None:
        """A cache that cannot be read or written (a replica, a role without the right) is none."""
        try:
            return ask()
        except (psycopg.Error, PoolTimeout, EmbedfleetError) as error:
            log.debug("the query cache is not used: %s", type(error).__name__)
            return None

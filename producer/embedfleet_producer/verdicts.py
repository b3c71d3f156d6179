"""Verdicts that an enqueue outdates: of sources that were read to their end once more."""

from __future__ import annotations

from embedfleet_producer.persistence import persistently
from embedfleet_producer.source import Source
from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.store import locks
from embedfleet_schema.types import CollectionInfo

_SQL = load("ingest")


class OutdatedVerdicts:
    """Those of one call; memory grows with the sources that have a verdict, not with all."""

    def __init__(self, db: Database, collection: CollectionInfo, source: Source) -> None:
        self._db = db
        self._collection = collection
        self._source = source
        self._rejected = persistently(lambda _: self._sources()) if source.tells_ends else set()
        self._ended: set[str] = set()

    def follow(self) -> None:
        """Note what was read to its end since the last time."""
        self._ended |= self._rejected.intersection(self._source.take_ended())

    def forget(self, job_id: int) -> None:
        """Delete what older jobs said of these sources, once all of the stream is stored."""
        self.follow()
        if self._ended:
            persistently(lambda _: self._forget(job_id))

    def _sources(self) -> set[str]:
        with self._db.connection() as conn:
            rows = conn.execute(_SQL["rejected_sources"], {"collection_id": self._collection.id})
            return {source for (source,) in rows}

    def _forget(self, job_id: int) -> None:
        values = {
            "collection_id": self._collection.id,
            "job_id": job_id,
            "sources": sorted(self._ended),
        }
        with self._db.transaction() as conn:
            locks.share(conn, self._collection.id)
            conn.execute(_SQL["forget_sources"], values)

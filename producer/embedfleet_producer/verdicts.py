"""Verdicts that an enqueue outdates: of sources that were read to their end once more."""

from __future__ import annotations

from embedfleet_producer.persistence import persistently
from embedfleet_producer.source import Source
from embedfleet_schema.database import Database
from embedfleet_schema.store import ingest
from embedfleet_schema.types import CollectionInfo


class OutdatedVerdicts:
    """Those of one call; memory grows with the sources that have a verdict, not with all."""

    def __init__(self, db: Database, collection: CollectionInfo, source: Source) -> None:
        self._db = db
        self._collection = collection
        self._source = source
        self._rejected = (
            persistently(lambda _: ingest.rejected_sources(db, collection))
            if source.tells_ends
            else set()
        )
        self._ended: set[str] = set()

    def follow(self) -> None:
        """Note what was read to its end since the last time."""
        self._ended |= self._rejected.intersection(self._source.take_ended())

    def forget(self, job_id: int) -> None:
        """Delete what older jobs said of these sources, once all of the stream is stored."""
        self.follow()
        if self._ended:
            sources = sorted(self._ended)
            persistently(
                lambda _: ingest.forget_sources(self._db, self._collection, job_id, sources)
            )

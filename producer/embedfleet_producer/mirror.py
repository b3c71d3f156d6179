"""Mirror: after all of a stream is stored, delete what its source no longer has."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from embedfleet_producer.retries import retried
from embedfleet_producer.scopes import Part, TellsParts, named
from embedfleet_schema.amounts import quantity
from embedfleet_schema.database import Database
from embedfleet_schema.errors import UsageError
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.store import mirrors, objects
from embedfleet_schema.store.documents import DELETED_AT_ONCE, Mirror
from embedfleet_schema.types import CollectionInfo

NOTHING_READ = "no document was read"


def mirrored_parts(stream: object, source: str | None) -> list[Part]:
    """Which documents a stream can miss.

    Raises:
        UsageError: nobody can tell.
    """
    if isinstance(stream, TellsParts):
        parts = stream.parts()
        if parts is None:
            reason = "standard input cannot be mirrored: nobody can tell whether all of it came"
            raise UsageError(reason=f"{reason}. Write it to a file first")
        name = source or stream.named
        return parts if name is None else [named(name)]
    if source is None:
        reason = "a mirror needs to know which documents are of the source. Name it"
        raise UsageError(reason=f'{reason}: docs.enqueue(documents, source="wiki", mirror=True)')
    return [named(source)]


def obstacle(stream: object, source: str | None, documents: int) -> str | None:
    """Why it is unknown what is gone: something was not read."""
    if isinstance(stream, TellsParts):
        return stream.obstacle(named=(source or stream.named) is not None)
    return None if documents else NOTHING_READ


def gone(
    db: Database, collection: CollectionInfo, mirror: Mirror | None, part: Part
) -> Iterator[mirrors.Page]:
    """Pages of the documents that a part no longer has; without a mirror, of all that it has."""
    for page in mirrors.pages(db, collection, mirror, part.scope):
        missed = [each for each in page.gone if part.would_read(each.source)]
        yield mirrors.Page(page.documents, missed)


def too_many(missed: int, documents: int, source: str) -> str | None:
    """Why so many are not deleted, unless somebody says so."""
    if 2 * missed <= documents:
        return None
    return (
        f"{missed:,} of {quantity(documents, 'document')} of {source} are gone, more than half. "
        "If that is right, delete them with --yes (confirm_deletions=True)"
    )


class Mirroring:
    """One call that mirrors. It begins before the stream is read, because what others store after
    that must stay.
    """

    def __init__(
        self,
        db: Database,
        collection: CollectionInfo,
        stream: object,
        source: str | None,
        *,
        confirmed: bool,
    ) -> None:
        """Raises UsageError where nobody can tell which documents the stream misses."""
        self._db = db
        self._collection = collection
        self._stream = stream
        self._source = source
        self._confirmed = confirmed
        self._parts = mirrored_parts(stream, source)
        self._since = retried(lambda _: mirrors.moment(db, collection))

    def begin(self, job_id: int, failpoints: Failpoints) -> None:
        self._failpoints = failpoints
        self._mirror = Mirror(job_id, self._since)
        retried(lambda again: mirrors.begin(self._db, self._collection, self._mirror, again=again))

    def end(self, documents: int) -> tuple[int, str | None]:
        """Delete, once everything is stored; returns how many documents, and why not others.

        `documents` were read.
        """
        self._mirror = retried(
            lambda _: mirrors.among_others(self._db, self._collection, self._mirror)
        )
        undeleted = self._why_not(documents)
        deleted = 0
        if undeleted is None:
            self._failpoints.hit("before_deletion")
            deleted = sum(map(self._delete, self._parts))
        retried(
            lambda _: mirrors.finish(self._db, self._mirror, deleted=deleted, undeleted=undeleted)
        )
        retried(lambda _: objects.forget(self._db, self._collection))
        retried(lambda _: mirrors.forget(self._db, self._collection))
        return deleted, undeleted

    def _why_not(self, documents: int) -> str | None:
        if what := obstacle(self._stream, self._source, documents):
            return f"nothing was deleted, because not all was read: {what}"
        if what := retried(lambda _: mirrors.doubt(self._db, self._collection, self._mirror)):
            return f"nothing was deleted, because {what}"
        if self._confirmed:
            return None
        for part in self._parts:
            documents = missed = 0
            for page in gone(self._db, self._collection, self._mirror, part):
                documents += page.documents
                missed += len(page.gone)
            if what := too_many(missed, documents, part.scope.source):
                return what
        return None

    def _delete(self, part: Part) -> int:
        deleted = 0
        for page in gone(self._db, self._collection, self._mirror, part):
            keys = [each.key for each in page.gone]
            for start in range(0, len(keys), DELETED_AT_ONCE):
                at_once = keys[start : start + DELETED_AT_ONCE]
                deleted += retried(partial(self._remove, at_once))
                self._failpoints.hit("after_deleted_page")
        return deleted

    def _remove(self, keys: list[str], again: bool) -> int:  # noqa: ARG002
        return mirrors.remove(self._db, self._collection, self._mirror, keys)

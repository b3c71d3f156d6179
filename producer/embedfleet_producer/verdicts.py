"""Verdicts of one enqueue: those that it supersedes, and those that are alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from embedfleet_producer.printable import printable
from embedfleet_producer.retries import retried
from embedfleet_producer.source import Source
from embedfleet_producer.validation import storable_source
from embedfleet_schema.amounts import quantity
from embedfleet_schema.database import Database
from embedfleet_schema.store import ingest
from embedfleet_schema.store.incoming import VerdictRow
from embedfleet_schema.types import CollectionInfo, Rejection

# Verdicts of one code that are listed of a file; of the others, the number.
MOST_ALIKE = 1_000
# Sources whose verdicts are forgotten in one transaction; each has some thousand at the most.
FORGOTTEN_AT_ONCE = 100
# What has no source, of a stream that tells its sources.
STDIN = "stdin"


class SupersededVerdicts:
    """Those of one call, on sources that it reads to their end; memory grows with the sources that
    have a verdict, not with all.
    """

    def __init__(self, db: Database, collection: CollectionInfo, source: Source) -> None:
        self._db = db
        self._collection = collection
        self._source = source
        self._rejected = (
            retried(lambda _: ingest.rejected_sources(db, collection))
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
        sources = sorted(self._ended)
        for start in range(0, len(sources), FORGOTTEN_AT_ONCE):
            page = sources[start : start + FORGOTTEN_AT_ONCE]
            retried(partial(self._forget, job_id, page))

    def _forget(self, job_id: int, sources: list[str], again: bool) -> None:  # noqa: ARG002
        ingest.forget_sources(self._db, self._collection, job_id, sources)


class RepeatedVerdicts:
    """Those of one call. A file may have millions of rows that are all wrong in one way: it lists
    the first of each code, and one more verdict says how many follow.

    Where they are not of files, the caller knows each document by its key, and all are listed.
    """

    def __init__(self, *, of_files: bool) -> None:
        self._of_files = of_files
        self._counts: Counter[tuple[str, str]] = Counter()

    def cut(self, verdicts: Sequence[Rejection]) -> list[Rejection]:
        """What is listed of a window's verdicts, after those that were counted."""
        if not self._of_files:
            return list(verdicts)
        listed, more = list[Rejection](), dict[tuple[str, str], Rejection]()
        here: Counter[tuple[str, str]] = Counter()
        for verdict in verdicts:
            alike = _alike(verdict)
            here[alike] += 1
            count = self._counts[alike] + here[alike]
            if count <= MOST_ALIKE:
                listed.append(verdict)
            else:
                more[alike] = _more(verdict, count - MOST_ALIKE)
        return [*listed, *more.values()]

    def count(self, verdicts: Sequence[Rejection]) -> None:
        """A window is stored."""
        if self._of_files:
            self._counts.update(map(_alike, verdicts))


def _alike(verdict: Rejection) -> tuple[str, str]:
    return verdict.source or STDIN, verdict.code


def _more(last: Rejection, count: int) -> Rejection:
    have = "has" if count == 1 else "have"
    reason = f"{quantity(count, 'more row')} of it {have} the same fault"
    return replace(last, key="#".join(_alike(last)), reason=reason)


def rows(verdicts: Sequence[Rejection]) -> list[VerdictRow]:
    """Verdicts on any objects, in words that PostgreSQL can hold."""
    return [
        VerdictRow(
            printable(verdict.key),
            verdict.code,
            printable(verdict.reason),
            storable_source(verdict.source),
        )
        for verdict in verdicts
    ]

"""One collection is kept equal to another one of another model: it stores what that stores.

Texts come from the database and are not cut again. Only their tokens are counted anew, with the
tokenizer of this model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from embedfleet_producer.chunking import Chunker
from embedfleet_producer.loading import Loading
from embedfleet_producer.prepare import unfit
from embedfleet_producer.retries import retried
from embedfleet_producer.tokens import counter_for
from embedfleet_schema.broker import Doorbell
from embedfleet_schema.database import Database
from embedfleet_schema.embedded_text import embedded_text, text_hash
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import documents, ingest, model_changes, stored_chunks
from embedfleet_schema.store.incoming import ChunkRow, DocumentRow, Incoming, TextFailure
from embedfleet_schema.store.ingest import ExistingRow
from embedfleet_schema.store.model_changes import ModelChange
from embedfleet_schema.store.stored_chunks import StoredChunk
from embedfleet_schema.turns import Turn
from embedfleet_schema.types import Chunk, CollectionInfo, Document


@dataclass(slots=True)
class Followed:
    """What one round did, in which job; None where nothing was to be done.

    `changed` counts the documents that had changed, and `documents` those of them that were stored.
    """

    job_id: int | None = None
    changed: int = 0
    documents: int = 0


class Follower:
    """Brings the changes of one collection to the other one of a model change."""

    def __init__(
        self, db: Database, change: ModelChange, settings: Settings, doorbell: Doorbell
    ) -> None:
        target = change.other
        self._db = db
        self._change = change
        self._settings = settings
        self._doorbell = doorbell
        counter = counter_for(target.space, target.chunking)
        self._chunker = Chunker(target.space, target.chunking, counter)
        self._failpoints = Failpoints.parse(settings.failpoints)

    def follow(self, *, budget_usd: float | None = None) -> Followed:
        """Store what had changed by now, in one job that workers then embed. What changes meanwhile
        is left to the next round.
        """
        done = Followed()
        last = model_changes.last_change(self._db, self._change)
        if last is None:
            return done
        with Loading(
            self._db,
            self._change.other,
            self._settings,
            budget_usd=budget_usd,
            delivery="direct",
            turn=Turn("bulk"),
            kind="migrate",
        ) as done.job_id:
            while changed := model_changes.changes(self._db, self._change, until=last):
                self._bring(changed, done.job_id, done)
        return done

    def _bring(self, changed: Mapping[str, list[int]], job_id: int, done: Followed) -> None:
        """A change is forgotten once it is here. What changed again since has a later one."""
        done.changed += len(changed)
        weighed = model_changes.weights(self._db, self._change.served, list(changed))
        for keys in model_changes.in_pages(weighed):
            done.documents += self._store(keys, job_id)
            self._failpoints.hit("after_change_copied")
            self._forget(changed, keys)
        gone = [key for key in changed if key not in weighed]
        if gone:
            retried(lambda _: documents.remove(self._db, self._change.other, gone))
            self._forget(changed, gone)

    def _forget(self, changed: Mapping[str, list[int]], keys: Sequence[str]) -> None:
        numbers = [number for key in keys for number in changed[key]]
        retried(lambda _: model_changes.forget_changes(self._db, numbers))

    def _store(self, keys: Sequence[str], job_id: int) -> int:
        target = self._change.other
        batch_tokens = self._settings.batch_tokens(target.queue)

        def stored(_: bool) -> ingest.Merged:
            known = {row.key: row for row in ingest.existing_documents(self._db, target, keys)}
            found = stored_chunks.of_keys(self._db, self._change.served, keys)
            incoming = self._incoming(found, known)
            return ingest.merge(
                self._db,
                target,
                job_id,
                incoming,
                batch_tokens=batch_tokens,
                interactive_tokens=self._settings.interactive_tokens,
            )

        merged = retried(stored)
        retried(lambda _: documents.prune(self._db, target, merged.left_behind))
        if merged.batches:
            self._doorbell.ring(target.queue, merged.batches)
        return merged.tally.documents

    def _incoming(self, found: Sequence[StoredChunk], known: Mapping[str, ExistingRow]) -> Incoming:
        incoming = Incoming(replace=True)
        fresh: list[StoredChunk] = []
        for key, group in groupby(found, key=attrgetter("key")):
            chunks = list(group)
            incoming.keys.append(key)
            first, former = chunks[0], known.get(key)
            if former is None or former.digest != first.digest:
                incoming.documents.append(DocumentRow(key, first.digest, first.source))
                fresh += chunks
                continue
            incoming.unchanged += 1
            if not former.live:
                incoming.waiting.append(key)
            if first.source is not None and first.source != former.source:
                incoming.sources[key] = first.source
        distinct = list({chunk.hash: chunk for chunk in fresh}.values())
        texts = [embedded_text(chunk.content, chunk.context) for chunk in distinct]
        before = self._chunker.context_tokens({each.context for each in distinct if each.context})
        tokens: dict[bytes, int] = {}
        for chunk, reading in zip(distinct, self._chunker.readings(texts), strict=True):
            count, unread = reading
            tokens[chunk.hash] = count
            context_tokens = before[chunk.context] if chunk.context else 0
            failure = unfit(count, unread, context_tokens, self._chunker.limit)
            if not _is_text(chunk):
                # It stands for a text that PostgreSQL cannot hold.
                failure = TextFailure(chunk.code, chunk.reason or "") if chunk.code else None
            if failure is not None:
                incoming.failures[chunk.hash] = failure
        for each in fresh:
            row = (each.key, each.position, each.start, each.end, tokens[each.hash], each.hash)
            incoming.chunks.append(ChunkRow(*row, each.content, each.metadata, each.context))
        return incoming


def _is_text(chunk: StoredChunk) -> bool:
    return chunk.hash == text_hash(chunk.content, chunk.context)


def stored_documents(db: Database, collection: CollectionInfo) -> Iterator[Document]:
    """What a collection has stored, as documents of ready-made chunks: to plan with."""
    for keys in model_changes.all_keys(db, collection):
        weighed = model_changes.weights(db, collection, keys)
        for page in model_changes.in_pages(weighed):
            found = stored_chunks.of_keys(db, collection, page)
            for key, group in groupby(found, key=attrgetter("key")):
                yield Document(
                    key, chunks=[Chunk(each.content, context=each.context) for each in group]
                )

"""A plan: what enqueueing documents would do and cost, counted without writing anything."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from embedfleet_producer.chunking import Chunker
from embedfleet_producer.contexts import ContextFunction
from embedfleet_producer.existing import ExistingDocument, existing_documents
from embedfleet_producer.mirror import gone, mirrored_parts, obstacle, too_many
from embedfleet_producer.prepare import Prepared, keep_some, prepare
from embedfleet_producer.ready_made import ChunkFunction
from embedfleet_producer.scopes import Part
from embedfleet_producer.source import Known, Source, known_objects
from embedfleet_producer.tokens import counter_for
from embedfleet_producer.windows import Documents, Window, windows
from embedfleet_schema.database import Database
from embedfleet_schema.embedded_text import embedded_text
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import objects, plans
from embedfleet_schema.types import Chunking, CollectionInfo, Rejection, Space

# Ids of jobs start at 1.
_THIS_PLAN = 0
# Texts that are kept to measure a model with.
SAMPLES = 32
# Keys of documents to be deleted that are listed.
DELETIONS_LISTED = 1_000


@dataclass(frozen=True, slots=True)
class Target:
    """Where the documents would go: an existing collection, or one that is only thought of."""

    space: Space
    chunking: Chunking = field(default_factory=Chunking)
    collection: CollectionInfo | None = None


@dataclass(slots=True)
class Counted:
    """What was counted for one target.

    Of `texts`, the distinct chunks, `stored` have their vector in the collection and `elsewhere`
    in another one of the same space, `failed` cannot be embedded by this model; `to_embed` are the
    others and `tokens_to_pay` theirs, with prompt and special tokens. Texts that unchanged
    documents still wait for are among them. A mirror would delete `to_delete` documents, the first
    of them `deletions`, or none for the reason `undeleted`.
    """

    documents: int = 0
    unchanged: int = 0
    rejected: int = 0
    chunks: int = 0
    texts: int = 0
    tokens: int = 0
    stored: int = 0
    elsewhere: int = 0
    failed: int = 0
    to_embed: int = 0
    tokens_to_pay: int = 0
    rejections: list[Rejection] = field(default_factory=list)
    to_delete: int = 0
    deletions: list[str] = field(default_factory=list)
    undeleted: str | None = None
    samples: list[str] = field(default_factory=list)


class Planner:
    """Counts windows for one target.

    Memory grows by about a hundred bytes per distinct text, and twice that per document: both are
    told apart over the whole stream.
    """

    def __init__(
        self,
        db: Database,
        target: Target,
        *,
        replace_others: bool = False,
        context: ContextFunction | None = None,
        deletions: PlannedDeletions | None = None,
    ) -> None:
        counter = counter_for(target.space, target.chunking)
        self._db = db
        self._collection = target.collection
        self._replace_others = replace_others
        self._context = context
        self.chunker = Chunker(target.space, target.chunking, counter)
        self._others = plans.siblings(db, target.space, target.collection)
        self._documents: dict[bytes, ExistingDocument] = {}
        self._texts: set[bytes] = set()
        self._deletions = deletions
        self.mode = self.chunker.mode
        self.approximate = counter.approximate
        self.counted = Counted()

    def add(self, window: Window) -> None:
        """Count one window of the stream."""
        # Other planners have the same window, for collections that may hold other keys.
        window = replace(window, accepted=dict(window.accepted))
        known = self._known(window)
        prepared = prepare(
            window,
            known,
            self.chunker,
            job_id=_THIS_PLAN,
            replace_others=self._replace_others,
            context=self._context,
        )
        self.count(prepared)
        if self._deletions is not None:
            self._deletions.see(window, prepared, known)

    def count(self, prepared: Prepared) -> None:
        """Count what is ready to be stored."""
        incoming = prepared.incoming
        for document in incoming.documents:
            self._documents[_short(document.key)] = ExistingDocument(
                document.digest, live=True, job_id=_THIS_PLAN, source=document.source
            )
        self._count_documents(prepared)
        chunks = {chunk.hash: chunk for chunk in incoming.chunks}
        fresh = {hash_: chunk for hash_, chunk in chunks.items() if hash_ not in self._texts}
        self._texts.update(fresh)
        self.counted.texts += len(fresh)
        self.counted.tokens += sum(chunk.tokens for chunk in fresh.values())
        missing = self._missing({hash_: chunk.tokens for hash_, chunk in fresh.items()})
        for hash_ in missing.keys() & incoming.failures.keys():
            del missing[hash_]
            self.counted.failed += 1
        self._pay(missing)
        room = SAMPLES - len(self.counted.samples)
        sampled = [fresh[hash_] for hash_ in list(missing)[:room]]
        self.counted.samples += [embedded_text(each.content, each.context) for each in sampled]
        self._pay(self._missing(self._waiting(incoming.waiting)))

    def known(self, stream: object, source: str | None) -> Known | None:
        """Which objects of a stream are counted without reading them."""
        if self._collection is None:
            return None
        return known_objects(self._db, self._collection, stream, source)

    def end(self) -> None:
        """All of the stream was counted."""
        if self._deletions is not None:
            self._deletions.count(self.counted)

    def _known(self, window: Window) -> dict[str, ExistingDocument]:
        known: dict[str, ExistingDocument] = {}
        if self._collection:
            known = existing_documents(self._db, self._collection, window.keys())
        window.use_former_keys(known)
        for key in window.accepted:
            first = self._documents.get(_short(key))
            if first is not None:
                known[key] = first
        return known

    def _count_documents(self, prepared: Prepared) -> None:
        counted, incoming = self.counted, prepared.incoming
        counted.documents += len(incoming.documents)
        counted.unchanged += incoming.unchanged
        counted.rejected += len(prepared.rejected)
        counted.chunks += len(incoming.chunks)
        keep_some(counted.rejections, prepared.rejected)

    def _missing(self, texts: Mapping[bytes, int]) -> dict[bytes, int]:
        """Those that have no vector yet; counts the others by where they have it."""
        missing = dict(texts)
        here = self._take(missing, self._collection)
        self.counted.stored += here
        for other in self._others:
            self.counted.elsewhere += self._take(missing, other)
        return missing

    def _take(self, missing: dict[bytes, int], collection: CollectionInfo | None) -> int:
        """Take out what a collection has; returns how many that are."""
        found = plans.stored(self._db, collection, missing.keys()) if collection else set()
        for hash_ in found:
            del missing[hash_]
        return len(found)

    def _waiting(self, keys: Sequence[str]) -> dict[bytes, int]:
        """Texts without a vector of documents that readers do not see yet."""
        if not keys or self._collection is None:
            return {}
        texts = plans.waiting(self._db, self._collection, keys)
        fresh = {hash_: tokens for hash_, tokens in texts.items() if hash_ not in self._texts}
        self._texts.update(fresh)
        return fresh

    def _pay(self, missing: Mapping[bytes, int]) -> None:
        self.counted.to_embed += len(missing)
        self.counted.tokens_to_pay += sum(missing.values()) + self.chunker.added * len(missing)


class PlannedDeletions:
    """What a mirror would delete. Memory grows by about a hundred bytes per document.

    Raises:
        UsageError: nobody can tell which documents the stream misses.
    """

    def __init__(
        self, db: Database, collection: CollectionInfo, stream: object, source: str | None
    ) -> None:
        self._db = db
        self._collection = collection
        self._stream = stream
        self._source = source
        self._parts = mirrored_parts(stream, source)
        self._seen: set[bytes] = set()
        self._new: Counter[int] = Counter()

    def see(self, window: Window, prepared: Prepared, known: Container[str]) -> None:
        """A window of what stays, and of what would be rejected and so stays, too; of the others
        those that are not `known` would be new.
        """
        for document in prepared.incoming.documents:
            if document.key not in known:
                holding = (n for n, p in enumerate(self._parts) if p.scope.holds(document.source))
                self._new.update(holding)
        self._seen.update(map(_short, window.accepted))
        self._seen.update(_short(each.key) for each in prepared.rejected)
        kept = [each.source for each in window.objects if each.is_kept]
        if kept:
            self._seen.update(map(_short, objects.keys(self._db, self._collection, kept)))

    def count(self, counted: Counted) -> None:
        """Once all of the stream was seen."""
        documents = counted.documents + counted.unchanged
        counted.undeleted = obstacle(self._stream, self._source, documents)
        if counted.undeleted is None:
            for number, part in enumerate(self._parts):
                self._count(part, self._new[number], counted)

    def _count(self, part: Part, documents: int, counted: Counted) -> None:
        missed = 0
        for page in gone(self._db, self._collection, None, part):
            keys = [each.key for each in page.gone if _short(each.key) not in self._seen]
            documents += page.documents
            missed += len(keys)
            counted.deletions += keys[: DELETIONS_LISTED - len(counted.deletions)]
        counted.to_delete += missed
        counted.undeleted = counted.undeleted or too_many(missed, documents, part.scope.source)


def count_all(
    stream: Documents,
    planners: Sequence[Planner],
    settings: Settings,
    *,
    chunk: ChunkFunction | None = None,
    contextual: bool = False,
    source: str | None = None,
    on_window: Callable[[Counted], None] | None = None,
) -> None:
    """Show a stream to all planners, window by window; it is read once, and cut in one mode.

    `source` is that of all documents.
    """
    known = None
    if len(planners) == 1 and chunk is None and not contextual:
        known = planners[0].known(stream, source)
    mode = planners[0].mode
    with closing(Source(stream, known=known, name=source)) as documents:
        for window in windows(
            documents, settings, mode=mode, function=chunk, contextual=contextual
        ):
            for planner in planners:
                planner.add(window)
            if on_window is not None:
                on_window(planners[0].counted)
    for planner in planners:
        planner.end()


def _short(key: str) -> bytes:
    """Sixteen bytes that stand for a key, whatever its length."""
    return hashlib.blake2b(key.encode(), digest_size=16).digest()

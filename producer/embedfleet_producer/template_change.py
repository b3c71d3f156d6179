"""Another template for what is stored: new versions of documents, made from their chunks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import groupby

from embedfleet_producer.budget import check_budget
from embedfleet_producer.chunking import Chunker, settled
from embedfleet_producer.contexts import SHARE_OF_CONTEXT
from embedfleet_producer.enqueue import Enqueued, OnWindow, Producer
from embedfleet_producer.loading import Loading
from embedfleet_producer.plan import Counted, Planner, Target
from embedfleet_producer.prepare import Prepared, unfit
from embedfleet_producer.templates import Template
from embedfleet_producer.verdicts import RepeatedVerdicts
from embedfleet_schema.database import Database
from embedfleet_schema.driver_errors import translated
from embedfleet_schema.embedded_text import embedded_text, text_hash
from embedfleet_schema.errors import TemplateUnfinished
from embedfleet_schema.store import collections, stored_chunks
from embedfleet_schema.store.incoming import ChunkRow, DocumentRow, Incoming, TextFailure
from embedfleet_schema.store.stored_chunks import StoredChunk
from embedfleet_schema.turns import Turn
from embedfleet_schema.types import CollectionInfo, Rejection

# Metadata of chunks that stand beside each other is often the same.
_CONTEXTS_KEPT = 1_024


class TemplateChange:
    """What a change from one template to another makes of stored chunks.

    A chunk whose context is that of the former template gets the new one; one that brought its own
    keeps it. Contents and cuts stay. A document of which a chunk would be longer than the model
    takes stays as it is, with the verdict READ_AGAIN: it has to be read again, to be cut anew.
    """

    def __init__(self, former: str, chunker: Chunker) -> None:
        self._chunker = chunker
        said = partial(_contexts, Template(former), chunker.template)
        self._contexts = lru_cache(_CONTEXTS_KEPT)(said)

    def prepared(self, chunks: Sequence[StoredChunk]) -> Prepared:
        """New versions of the documents of a page that are to change, and verdicts on others."""
        prepared = Prepared(Incoming(), [])
        rows, changed = self._rows(chunks)
        for key, group in groupby(zip(chunks, rows, strict=True), lambda pair: pair[0].key):
            stored, new = zip(*group, strict=True)
            if key not in changed:
                prepared.incoming.unchanged += 1
            elif verdict := self._verdict(stored[0], new, changed[key]):
                prepared.rejected.append(verdict)
                prepared.incoming.outdated.append(key)
                prepared.incoming.versions[key] = stored[0].version
            else:
                _take(prepared.incoming, stored, new, self._failures(new, changed[key]))
        prepared.incoming.rejected = len(prepared.rejected)
        return prepared

    def _rows(
        self, chunks: Sequence[StoredChunk]
    ) -> tuple[list[ChunkRow], dict[str, dict[bytes, float]]]:
        """The rows of all chunks, and by key the texts that are new, with the share of each that
        the tokenizer does not know.
        """
        contexts = [self._context(chunk) for chunk in chunks]
        differ = [n for n, chunk in enumerate(chunks) if contexts[n] != chunk.context]
        texts = [embedded_text(chunks[n].content, contexts[n]) for n in differ]
        readings = dict(zip(differ, self._chunker.readings(texts), strict=True))
        rows = []
        changed: dict[str, dict[bytes, float]] = {}
        for n, chunk in enumerate(chunks):
            tokens, hash_ = chunk.tokens, chunk.hash
            if n in readings:
                tokens, unread = readings[n]
                hash_ = text_hash(chunk.content, contexts[n])
                changed.setdefault(chunk.key, {})[hash_] = unread
            rows.append(
                ChunkRow(
                    *(chunk.key, chunk.position, chunk.start, chunk.end, tokens, hash_),
                    *(chunk.content, chunk.metadata, contexts[n]),
                )
            )
        return rows, changed

    def _context(self, chunk: StoredChunk) -> str | None:
        """The one that it is to have."""
        former, new = self._contexts(chunk.key, chunk.metadata)
        # What stands for a chunk that could not be stored has the address of no text.
        is_text = chunk.hash == text_hash(chunk.content, chunk.context)
        return new if is_text and chunk.context == former else chunk.context

    def _verdict(
        self, stored: StoredChunk, rows: Sequence[ChunkRow], changed: dict[bytes, float]
    ) -> Rejection | None:
        limit = self._chunker.limit
        new = [row for row in rows if row.hash in changed]
        before = self._chunker.context_tokens(row.context for row in new if row.context)
        longest = max(row.tokens for row in new)
        most = max(before.values(), default=0)
        if longest <= limit and most <= limit // SHARE_OF_CONTEXT:
            return None
        reason = (
            f"with its context a chunk would have {longest:,} tokens, {most:,} of them before the "
            f"content; the model takes {limit:,}. Enqueue the document again: it is cut anew"
        )
        return Rejection(stored.key, "READ_AGAIN", reason, stored.source)

    def _failures(
        self, rows: Sequence[ChunkRow], changed: dict[bytes, float]
    ) -> dict[bytes, TextFailure]:
        """New texts that the model could not do justice."""
        failures = {}
        for row in rows:
            # Its context was found to be short enough.
            failure = unfit(row.tokens, changed.get(row.hash, 0.0), 0, self._chunker.limit)
            if failure is not None and row.hash in changed:
                failures[row.hash] = failure
        return failures


class Retemplating(Producer):
    """Gives a collection another template, and its documents new versions."""

    def change(
        self, template: str, *, budget_usd: float | None = None, on_window: OnWindow | None = None
    ) -> Enqueued:
        """Set the template, and store new versions of documents, page by page.

        If it is cut off, call it again with the same template. What producers store meanwhile has
        the new template.

        Raises:
            BadChunking: it is no template, or leaves no room for a text; nothing was changed.
            BadBudget, PriceUnknown: the budget cannot be kept; nothing was changed.
            TemplateUnfinished: the change to another template was cut off.
        """
        db, info = self._db, self._collection
        check_budget(budget_usd, info.space, self._settings.prices)
        settled(info.space, replace(info.chunking, template=template))
        with translated(db, info.name):
            self._collection = collections.change_template(db, info, template)
            self._chunker = self._made_chunker()
            former = self._collection.former_template
            with Loading(
                db,
                self._collection,
                self._settings,
                budget_usd=budget_usd,
                delivery="direct",
                turn=Turn("bulk"),
                kind="template",
            ) as job_id:
                done = Enqueued(job_id)
                if former is not None:
                    self._store_all(TemplateChange(former, self._chunker), done, on_window)
                    collections.end_template_change(db, self._collection)
        return done

    def _store_all(
        self, change: TemplateChange, done: Enqueued, on_window: OnWindow | None
    ) -> None:
        alike = RepeatedVerdicts(of_files=False)
        for after, last in _pages(self._db, self._collection):
            prepare = partial(_prepared, self._db, self._collection, change, after, last)
            done.add(self._write(prepare(), prepare, done.job_id, "direct", alike))
            if on_window is not None:
                on_window(done)

    def _look_at_template(self) -> None:
        """Another change was begun and would be mixed with this one."""
        with self._db.transaction() as conn:
            current = collections.by_id(conn, self._collection.id)
        if current.template != self._collection.template:
            raise TemplateUnfinished(name=current.name, template=current.template)


def count_change(
    db: Database,
    collection: CollectionInfo,
    template: str,
    *,
    on_window: Callable[[Counted], None] | None = None,
) -> tuple[Target, Planner]:
    """What a change of the template would do, counted without writing anything.

    Raises:
        BadChunking: it is no template, or leaves no room for a text.
        TemplateUnfinished: the change to another template was cut off.
    """
    former = collection.template
    if collection.former_template is not None:
        former = collection.former_template
        if collection.template != template:
            raise TemplateUnfinished(name=collection.name, template=collection.template)
    wanted = settled(collection.space, replace(collection.chunking, template=template))
    target = Target(collection.space, wanted, collection)
    planner = Planner(db, target)
    change = TemplateChange(former, planner.chunker)
    for after, last in _pages(db, collection):
        planner.count(_prepared(db, collection, change, after, last))
        if on_window is not None:
            on_window(planner.counted)
    return target, planner


def _pages(db: Database, collection: CollectionInfo) -> Iterator[tuple[str, str]]:
    """Keys between which a page of documents lies."""
    after = ""
    while (last := stored_chunks.last_of_page(db, collection, after)) is not None:
        yield after, last
        after = last


def _prepared(
    db: Database, collection: CollectionInfo, change: TemplateChange, after: str, last: str
) -> Prepared:
    return change.prepared(stored_chunks.page(db, collection, after, last))


def _contexts(
    former: Template, new: Template, key: str, metadata: str
) -> tuple[str | None, str | None]:
    read = json.loads(metadata)
    return former.context(key, read), new.context(key, read)


def _take(
    incoming: Incoming,
    stored: Sequence[StoredChunk],
    rows: Sequence[ChunkRow],
    failures: dict[bytes, TextFailure],
) -> None:
    """A document in a new version, unless it gets another one before this is stored."""
    first = stored[0]
    incoming.documents.append(DocumentRow(first.key, first.digest, first.source))
    incoming.versions[first.key] = first.version
    incoming.chunks += rows
    incoming.failures |= failures
    for chunk, row in zip(stored, rows, strict=True):
        # What nobody tried would be refused again.
        if chunk.code is not None and row.hash == chunk.hash:
            incoming.failures[row.hash] = TextFailure(chunk.code, chunk.reason or "")

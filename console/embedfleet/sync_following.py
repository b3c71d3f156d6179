"""What a process does for a sync in its turn: it reads rows and stores them as documents."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from embedfleet.connections import Connections
from embedfleet_producer.enqueue import Compared, Producer
from embedfleet_producer.printable import MAX_KEY_BYTES, printable
from embedfleet_producer.validation import MAX_METADATA_BYTES
from embedfleet_schema.database import Database
from embedfleet_schema.store import collections, documents, sync_rows, sync_triggers, syncs
from embedfleet_schema.store.sync_rows import Content, Page, Row
from embedfleet_schema.store.sync_source import SourceTable
from embedfleet_schema.store.sync_turns import FencedDatabase, taken
from embedfleet_schema.store.syncs import SyncInfo
from embedfleet_schema.sync_errors import SyncRefused, SyncStopped
from embedfleet_schema.types import CollectionInfo, Document, Rejection

# Rows that are read at once, and documents that are looked up.
PAGE = 1_000
# With more changes than this behind, they are stored as a backfill is: in the bulk lane.
MOST_INTERACTIVE = 10_000
# The last character of a key that is cut off may have four bytes.
CUT_OFF_BYTES = MAX_KEY_BYTES - 3
# How long one process keeps its turn while others may wait for theirs.
TURN_S = 10.0


def prepared(db: Database, sync: SyncInfo) -> SourceTable:
    """The table of a sync, with all its triggers.

    Raises:
        SyncRefused, SyncStopped: it cannot be followed now; that is noted.
    """
    try:
        table, lacking = sync_triggers.examine(db, sync)
        if lacking:
            sync_triggers.install(db, sync)
    except (SyncRefused, SyncStopped) as error:
        syncs.note_problem(db, sync.id, str(error))
        raise
    if lacking or sync.problem is not None or table.layout != sync.layout:
        # What changed meanwhile was not told.
        syncs.go_on(db, sync.id, table.layout)
    return table


@contextmanager
def following(
    connections: Connections,
    sync: SyncInfo,
    table: SourceTable,
    *,
    waits: bool,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Following | None]:
    """Have the turn of a sync, until `stopped`; None where another process has it, and this one
    does not wait.
    """
    with connections.db.transaction() as conn:
        collection = collections.by_id(conn, sync.collection_id)
    with taken(connections.db, sync, waits=waits, stopped=stopped) as fenced:
        # How far others have come meanwhile.
        now = None if fenced is None else syncs.by_id(fenced, sync.id)
        if fenced is None or now is None:
            yield None
        else:
            yield Following(connections, fenced, collection, now, table)


class Following:
    """One turn. Each key is read as the row is now and then stored; what changes in between is in
    the outbox by then, and read again.
    """

    def __init__(
        self,
        connections: Connections,
        db: FencedDatabase,
        collection: CollectionInfo,
        sync: SyncInfo,
        table: SourceTable,
    ) -> None:
        settings = connections.settings
        self.db = db
        self.collection = collection
        self.sync = sync
        self.table = table
        self._producer = Producer(db, collection, settings, connections.doorbell)
        self._most_bytes = settings.max_document_bytes
        self._window_bytes = settings.window_bytes
        # What somebody loaded is not to go before what others wait for.
        self._is_load = sync.behind > MOST_INTERACTIVE
        self._position = sync.backfill_after
        self._backfilled = sync.backfilled_at is not None

    def work(self, goes_on: Callable[[], bool], on_page: Callable[[int], object]) -> bool:
        """Follow what changed, and in turn with that read what was there before; whether nothing
        is left. `on_page` is told of rows that were there before.
        """
        waits = False
        while goes_on():
            changed = self._follow_some()
            read = 0 if self._backfilled else self._backfill_some()
            on_page(read)
            if changed or not self._backfilled:
                continue
            if waits:
                return True
            # Whoever changed something before this was committed tells nobody: look once more.
            syncs.wait_for_changes(self.db, self.sync.id)
            waits = True
        return False

    def drain(self, goes_on: Callable[[], bool]) -> None:
        """Follow what changed."""
        while goes_on() and self._follow_some():
            pass

    def page(self, after: Sequence[str] | None) -> Page:
        return sync_rows.page(self.db, self.table, after, PAGE)

    def compare(self, rows: Sequence[Row]) -> Iterator[Compared]:
        """What storing these rows would change."""
        for items, _ in self._read(rows):
            yield self._producer.compare(items)

    def follow(self, keys: Sequence[str], *, as_load: bool = False) -> None:
        """Store the rows of these keys as they are now, and remove what has no row any more."""
        for start in range(0, len(keys), PAGE):
            part = keys[start : start + PAGE]
            rows = sync_rows.sized(self.db, self.table, part)
            self._store(rows, backfill=as_load)
            self._remove(sorted(set(part) - {row.key for row in rows}))

    def gone(self) -> Iterator[list[str]]:
        """The keys of documents, and of verdicts, whose rows are not there, a page at a time."""
        number: int | None = 0
        while number is not None:
            number, keys = syncs.own_documents(self.db, self.collection, self.sync.source, number)
            yield self._without_row(keys)
        after = ""
        while keys := syncs.own_verdicts(self.db, self.collection, self.sync.source, after):
            # A key that is too long for a document is cut off in its verdict.
            yield self._without_row([key for key in keys if len(key.encode()) < CUT_OFF_BYTES])
            after = keys[-1]

    def _without_row(self, keys: Sequence[str]) -> list[str]:
        there = {row.key for row in sync_rows.sized(self.db, self.table, keys)}
        return [key for key in keys if key not in there]

    def _follow_some(self) -> bool:
        changes = syncs.take(self.db, self.sync.id)
        if not changes.ids:
            return False
        if changes.emptied:
            for keys in self.gone():
                self._remove(keys)
        self.follow(changes.keys, as_load=self._is_load)
        # A process that dies before this does it again, which changes nothing.
        syncs.forget(self.db, self.sync.id, changes)
        return True

    def _backfill_some(self) -> int:
        page = self.page(self._position)
        if page.rows:
            self._store(page.rows, backfill=True)
            self._position = page.position
            syncs.move_backfill(self.db, self.sync.id, page.position, len(page.rows))
        if len(page.rows) < PAGE:
            syncs.end_backfill(self.db, self.sync.id)
            self._backfilled = True
        return len(page.rows)

    def _store(self, rows: Sequence[Row], *, backfill: bool = False) -> None:
        for items, vanished in self._read(rows):
            job_id = syncs.job_of(self.db, self.collection, self.sync.id, backfill=backfill)
            verdicts = [
                verdict
                for written in self._producer.store(items, job_id)
                for verdict in written.rejections
            ]
            self._withdraw(items, verdicts, job_id)
            self._remove(vanished)

    def _withdraw(
        self, items: Sequence[Document | Rejection], verdicts: Sequence[Rejection], job_id: int
    ) -> None:
        """Remove documents whose rows are not accepted any more: what they said is not in the table
        now. The verdict, which goes with the document, is given again.
        """
        refused = {verdict.key for verdict in verdicts if verdict.code != "KEY_TAKEN"}
        held = set(syncs.own_keys(self.db, self.collection, self.sync.source, sorted(refused)))
        if held:
            documents.remove(self.db, self.collection, sorted(held))
            for _ in self._producer.store([each for each in items if each.key in held], job_id):
                pass

    def _remove(self, keys: Sequence[str]) -> None:
        if not keys:
            return
        held = syncs.own_keys(self.db, self.collection, self.sync.source, keys)
        documents.remove(self.db, self.collection, held)
        verdicts = [printable(key) for key in keys]
        syncs.forget_verdicts(self.db, self.collection, self.sync.source, verdicts)

    def _read(self, rows: Sequence[Row]) -> Iterator[tuple[list[Document | Rejection], list[str]]]:
        """Documents in groups that memory can hold, with the keys whose rows went meanwhile."""
        for group in _groups(rows, self._window_bytes, self._most_bytes):
            small = [row.key for row in group if self._refusal(row) is None]
            found = {each.key: each for each in sync_rows.contents(self.db, self.table, small)}
            items: list[Document | Rejection] = []
            for row in group:
                if (refusal := self._refusal(row)) is not None:
                    items.append(refusal)
                elif row.key in found:
                    items.append(self._document(found[row.key]))
            yield items, [key for key in small if key not in found]

    def _refusal(self, row: Row) -> Rejection | None:
        """The verdict on a row that is too large to be read."""
        if row.text_bytes > self._most_bytes:
            reason = f"it is longer than {self._most_bytes:,} bytes; split it"
            return Rejection(row.key, "TOO_LONG", reason, self.sync.source)
        if row.metadata_bytes > MAX_METADATA_BYTES:
            reason = f"metadata has at most {MAX_METADATA_BYTES:,} bytes"
            return Rejection(row.key, "BAD_METADATA", reason, self.sync.source)
        return None

    def _document(self, content: Content) -> Document:
        return Document(
            content.key, content.text, metadata=content.metadata, source=self.sync.source
        )


def until(seconds: float) -> Callable[[], bool]:
    """Whether the time is not over yet."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


def _groups(rows: Sequence[Row], window_bytes: int, most_bytes: int) -> Iterator[list[Row]]:
    """Rows that are read together, by what of them is read."""
    group, held = list[Row](), 0
    for row in rows:
        size = row.text_bytes if row.text_bytes <= most_bytes else 0
        size += min(row.metadata_bytes, MAX_METADATA_BYTES)
        if group and held + size > window_bytes:
            yield group
            group, held = [], 0
        group.append(row)
        held += size
    if group:
        yield group

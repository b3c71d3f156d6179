"""A sync as people use it: a collection follows a table, is compared with it, and lets go of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from embedfleet import arguments
from embedfleet.connections import Connections
from embedfleet.error_translation import translate_errors
from embedfleet_schema.driver_errors import translated
from embedfleet_schema.store import collections, model_changes, sync_triggers, syncs
from embedfleet_schema.store.documents import remove
from embedfleet_schema.store.syncs import SyncInfo
from embedfleet_schema.sync_errors import SyncRefused, SyncStopped, UnknownSync
from embedfleet_schema.types import CollectionInfo

if TYPE_CHECKING:
    from embedfleet.collection import Collection
    from embedfleet.sync_verification import Verified


@translate_errors
class Sync:
    """A collection that follows a table. Get one from `Fleet.sync`.

    `embedfleet sync run` follows all syncs; `catch_up` follows one, here and now.
    """

    def __init__(self, connections: Connections, sync: SyncInfo) -> None:
        self._connections = connections
        self._id = sync.id
        self.name = sync.name

    def __repr__(self) -> str:
        return f"<Sync {self.name!r}>"

    @property
    def status(self) -> SyncInfo:
        """Where it stands now; `problem` says why it cannot go on.

        Raises:
            UnknownSync: it was dropped.
        """
        found = self._found()
        try:
            sync_triggers.examine(self._connections.db, found)
        except (SyncRefused, SyncStopped) as error:
            return replace(found, problem=str(error))
        return replace(found, problem=None)

    def catch_up(self, *, on_page: Callable[[int], object] | None = None) -> SyncInfo:
        """Read the rows that are not read yet, and follow all that changed until now. It waits for
        its turn if `embedfleet sync run` is doing the same.

        Args:
            on_page: called with the number of rows of each page that was there before.

        Raises:
            SyncRefused, SyncStopped: it is paused, or the table cannot be followed now; the message
                says why.
        """
        from embedfleet.sync_following import TURN_S, following, prepared, until

        arguments.function("catch_up", "on_page", on_page)
        over = False
        while not over:
            sync = self._found()
            if sync.paused_at is not None:
                reason = f"it is paused. Go on with: embedfleet sync resume {self.name}"
                raise SyncStopped(name=self.name, reason=reason)
            table = prepared(self._connections.db, sync)
            with following(self._connections, sync, table, waits=True) as turn:
                over = turn is not None and turn.work(
                    until(TURN_S), on_page or (lambda _rows: None)
                )
        return self._found()

    def verify(
        self, *, mend: bool = True, on_page: Callable[[int], object] | None = None
    ) -> Verified:
        """Compare every row with its document, and every document with its row. What differs is
        stored again, unless told not to `mend`.

        What changed and is not followed yet is no difference.

        Raises:
            SyncRefused, SyncStopped: the table cannot be read now; the message says why.
        """
        from embedfleet.sync_verification import verify

        arguments.flag("verify", "mend", mend)
        arguments.function("verify", "on_page", on_page)
        found = verify(
            self._connections, self._found(), mend=mend, on_page=on_page or (lambda _rows: None)
        )
        assert found is not None  # noqa: S101 - nobody tells it to stop
        return found

    def pause(self) -> None:
        """Follow no more changes. They are noted, and followed after `resume`."""
        syncs.pause(self._connections.db, self._found().id)

    def resume(self) -> None:
        syncs.resume(self._connections.db, self._found().id)

    def drop(self, *, documents: bool = False) -> None:
        """Stop following, and remove the triggers. The documents stay, unless they are to go, too.

        Raises:
            SyncRefused: others keep the table locked.
        """
        arguments.flag("drop", "documents", documents)
        sync = self._found()
        sync_triggers.drop(self._connections.db, sync)
        if documents:
            with self._connections.db.transaction() as conn:
                collection = collections.by_id(conn, sync.collection_id)
            _remove_documents(self._connections, collection, sync.source)

    def _found(self) -> SyncInfo:
        found = syncs.by_id(self._connections.db, self._id)
        if found is None:
            raise UnknownSync(name=self.name)
        return found

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._connections.db)


@translate_errors
class Syncs(Connections):
    """The part of `Fleet` by which collections follow tables."""

    if TYPE_CHECKING:

        def collection(self, name: str, model: str | None = None) -> Collection: ...

    def sync(
        self,
        name: str,
        model: str | None = None,
        *,
        table: str | None = None,
        key: str | Sequence[str] = (),
        text: str | Sequence[str] = (),
        metadata: str | Sequence[str] = (),
    ) -> Sync:
        """The sync of the collection `name`. With a `table` of this database, create it: from now
        on, each row is a document, and changes are followed.

        The triggers are there at once. The rows are read by `embedfleet sync run`, or
        by `Sync.catch_up`.

        Args:
            model: of the collection, which is created if it does not exist.
            table: as in SQL: "public.articles".
            key: the columns of the primary key, or of another unique index. Of one column, its text
                is the key of the document; of several, a JSON array of their texts.
            text: the columns that are embedded, with an empty line between them.
            metadata: the columns that become metadata, by their names.

        Raises:
            UnknownSync: it follows no table, and none was given.
            SyncRefused: the table cannot be followed; the reason says what to do.
            SyncExists: it follows another table, or other columns.
            UnknownCollection, ModelMismatch: as for `collection`.
        """
        collection = self.collection(name, model).info
        if table is None:
            return Sync(self, syncs.find(self.db, collection))
        return _created(self, collection, table, key=key, text=text, metadata=metadata)

    def syncs(self) -> list[Sync]:
        """The syncs of all collections, by name."""
        return [Sync(self, each) for each in syncs.list_all(self.db)]

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self.db)


def _created(
    connections: Connections,
    collection: CollectionInfo,
    table: str,
    *,
    key: str | Sequence[str],
    text: str | Sequence[str],
    metadata: str | Sequence[str],
) -> Sync:
    arguments.text("sync", "table", table)
    model_changes.check_written(connections.db, collection)
    named = {
        word: [value] if isinstance(value, str) else arguments.texts("sync", word, value, '["id"]')
        for word, value in (("key", key), ("text", text), ("metadata", metadata))
    }
    for word in ("key", "text"):
        if not named[word]:
            raise SyncRefused(table=table, reason=f"name at least one column for {word}")
    for word, names in named.items():
        if len(set(names)) < len(names):
            raise SyncRefused(table=table, reason=f"a column is named twice for {word}")
    return Sync(connections, sync_triggers.create(connections.db, collection, table, **named))


def _remove_documents(connections: Connections, collection: CollectionInfo, source: str) -> None:
    db, number = connections.db, 0
    while True:
        last, keys = syncs.own_documents(db, collection, source, number)
        if last is None:
            break
        remove(db, collection, keys)
        number = last
    while keys := syncs.own_verdicts(db, collection, source, ""):
        syncs.forget_verdicts(db, collection, source, keys)

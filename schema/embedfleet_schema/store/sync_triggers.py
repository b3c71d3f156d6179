"""The triggers of a sync: made with it, mended where a partition came later, and looked after."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg import Connection, sql
from psycopg.rows import class_row

from embedfleet_schema.database import SYNC_LOCK_SPACE, Database
from embedfleet_schema.statements import load
from embedfleet_schema.store import collections, locks, sync_source, syncs
from embedfleet_schema.store.sync_source import SourceTable
from embedfleet_schema.store.syncs import SyncInfo
from embedfleet_schema.sync_errors import SyncExists, SyncRefused, SyncStopped
from embedfleet_schema.types import CollectionInfo

_SQL = load("sync")
_SOURCE = load("sync_source")

Result = TypeVar("Result")

# A trigger takes a lock that its table's writers wait for, so it is asked for in short tries.
TRIES = 10
PAUSE_S = 1.0


class Triggers(NamedTuple):
    """Those of one table, the synced one or a partition of it: which events no trigger tells."""

    schema: str
    name: str
    kind: str
    may_trigger: bool
    lacking: list[str]
    is_disabled: bool

    @property
    def called(self) -> str:
        return f"{self.schema}.{self.name}"


def create(
    db: Database,
    collection: CollectionInfo,
    name: str,
    *,
    key: Sequence[str],
    text: Sequence[str],
    metadata: Sequence[str],
) -> SyncInfo:
    """Follow a table: its row, its function and its triggers in one transaction, so that no change
    after it is missed. One that is there already in the same way is mended.

    Raises:
        SyncRefused: the table cannot be followed, or is busy for too long.
        SyncExists: the collection follows something else.
    """

    def once() -> SyncInfo:
        with db.transaction(name_holders=False) as conn:
            locks.share(conn, collection.id)
            collections.check_there(conn, collection)
            _alone(conn, collection.id)
            relation = sync_source.find(conn, name)
            table = sync_source.describe(
                conn, relation, name, key=key, text=text, metadata=metadata
            )
            sync = _row(conn, collection, table)
            _install(conn, sync)
            return syncs.listed(conn, sync_id=sync.id)[0]

    return _tried(name, once)


def examine(db: Database, sync: SyncInfo) -> tuple[SourceTable, list[Triggers]]:
    """The table as it is now, with those of its partitions that lack triggers.

    Raises:
        SyncRefused: it cannot be followed any more.
        SyncStopped: a trigger is switched off.
    """
    with db.transaction() as conn:
        table = sync_source.describe(
            conn, sync.relation, sync.table, key=sync.key, text=sync.text, metadata=sync.metadata
        )
        found = _triggers(conn, sync)
    for each in found:
        if each.is_disabled:
            reason = (
                f"a trigger of {each.called} is disabled. Enable it with: "
                f"ALTER TABLE {each.called} ENABLE TRIGGER USER"
            )
            raise SyncStopped(name=sync.name, reason=reason)
    return table, [each for each in found if each.lacking]


def install(db: Database, sync: SyncInfo) -> None:
    """Make the triggers that are lacking."""

    def once() -> None:
        with db.transaction(name_holders=False) as conn:
            _alone(conn, sync.collection_id)
            _install(conn, sync)

    _tried(sync.table, once)


def drop(db: Database, sync: SyncInfo) -> None:
    """Stop following: triggers, function, row and outbox go; documents stay."""

    def once() -> None:
        with db.transaction(name_holders=False) as conn:
            conn.execute(_SQL["wait_briefly"])
            values = {"sync_id": sync.id}
            for statement in ("drop_function", "delete", "clear_outbox"):
                conn.execute(_SQL[statement], values)

    _tried(sync.table, once)


def drop_of(conn: Connection[Any], collection: CollectionInfo) -> None:
    """The same for the collection that is dropped in this transaction, whose rows go with it."""
    for statement in ("drop_functions_of", "clear_outbox_of"):
        conn.execute(_SQL[statement], {"collection_id": collection.id})


def _row(conn: Connection[Any], collection: CollectionInfo, table: SourceTable) -> SyncInfo:
    """The sync as it is to be: the one that is there, or a new one."""
    known = syncs.listed(conn, collection_id=collection.id)
    values: dict[str, Any] = {
        "relation": table.relation,
        "key": list(table.key),
        "text": list(table.text),
        "metadata": list(table.metadata),
        "source": f"{table.schema}.{table.name}",
        "layout": table.layout,
    }
    if not known:
        row = conn.execute(_SQL["create"], values | {"collection_id": collection.id}).fetchone()
        assert row is not None  # noqa: S101 - INSERT ... RETURNING gives a row or raises
        return syncs.listed(conn, sync_id=int(row[0]))[0]
    sync = known[0]
    named = (list(table.key), list(table.text), list(table.metadata))
    is_same = sync.relation == table.relation
    # A table of the same name that was made anew takes the place of the one that is gone.
    if (sync.key, sync.text, sync.metadata) != named or not (
        is_same or sync.source == values["source"]
    ):
        raise SyncExists(name=collection.name, table=sync.table)
    if not is_same:
        conn.execute(_SQL["drop_function"], {"sync_id": sync.id})
        conn.execute(_SQL["follow_anew"], values | {"sync_id": sync.id})
    return syncs.listed(conn, sync_id=sync.id)[0]


def _install(conn: Connection[Any], sync: SyncInfo) -> None:
    conn.execute(_SQL["wait_briefly"])
    found = _triggers(conn, sync)
    if all(len(each.lacking) == 4 for each in found):  # noqa: PLR2004 - the four events
        conn.execute(_SQL["create_function"], {"sync_id": sync.id})
    for each in found:
        if not each.lacking:
            continue
        if each.kind == "f":
            reason = f"its partition {each.called} is a foreign table, which has no such triggers"
            raise SyncRefused(table=sync.table, reason=reason)
        if not each.may_trigger:
            reason = (
                f"this user may not create triggers on {each.called}. Its owner grants that with: "
                f"GRANT TRIGGER ON {each.called} TO {sync_source.user(conn)}"
            )
            raise SyncRefused(table=sync.table, reason=reason)
        for event in each.lacking:
            conn.execute(
                _SQL[f"trigger_{event}"].format(
                    name=sql.Identifier(f"embedfleet{sync.function}_{event}"),
                    table=sql.Identifier(each.schema, each.name),
                    function=sql.Identifier(sync.function),
                )
            )


def _alone(conn: Connection[Any], collection_id: int) -> None:
    """One process at a time makes triggers; below zero, because syncs have the other numbers."""
    conn.execute(_SQL["lock"], {"space": SYNC_LOCK_SPACE, "sync_id": -collection_id})


def _triggers(conn: Connection[Any], sync: SyncInfo) -> list[Triggers]:
    values = {"relation": sync.relation, "function": sync.function}
    with conn.cursor(row_factory=class_row(Triggers)) as cursor:
        return cursor.execute(_SOURCE["triggers"], values).fetchall()


def _tried(called: str, change: Callable[[], Result]) -> Result:
    """Do what needs a strong lock on somebody's table, again where that is busy."""
    for _ in range(TRIES):
        try:
            return change()
        except psycopg.errors.LockNotAvailable:
            time.sleep(PAUSE_S)
    reason = (
        "other transactions keep it locked (see pg_stat_activity). Try again when they are over"
    )
    raise SyncRefused(table=called, reason=reason)

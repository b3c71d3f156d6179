"""A collection that gets another model: another collection beside it is kept equal, and takes its
name.

Which two they are, and how far the second one is, stands in tables. So each step may be done again
after a crash, by whoever comes next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from psycopg import Connection, sql
from psycopg.rows import dict_row

from embedfleet_schema.database import Database
from embedfleet_schema.errors import (
    InModelChange,
    ModelChangeRefused,
    ModelChangeUnready,
    TemplateUnfinished,
)
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import collections, counters, locks, names, ownership
from embedfleet_schema.store.drop import drop
from embedfleet_schema.store.names import Move
from embedfleet_schema.types import Chunking, CollectionInfo, Queue, Space, VectorOptions

_SQL = load("model_changes")
_OF = _SQL["of"].format(which=_SQL["of_collection"])
_EXPIRED = _SQL["of"].format(which=_SQL["expired"])

# What the one that fills is named, and the one that is kept.
NEXT, OLD = "_next", "_old"
# Keys that are listed as changed in one transaction, and changes that are looked at together.
KEYS_AT_ONCE = 50_000
CHANGES_AT_ONCE = 1_000
CHUNKS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class ModelChange:
    """A change under way: `served` has the `name`, and `other` is kept equal to it.

    `changed` are the documents that `other` does not have yet as they are; while `listed` is False,
    there are more. After the switch, `other` is the former one, `keep_until` is when it may go, and
    `expired` says that this is over.
    """

    name: str
    served: CollectionInfo
    other: CollectionInfo
    listed: bool
    changed: int
    began_at: datetime
    switched_at: datetime | None
    keep_until: datetime | None
    expired: bool

    @property
    def switched(self) -> bool:
        return self.switched_at is not None

    @property
    def values(self) -> dict[str, Any]:
        return {"collection_id": self.served.id, "other_id": self.other.id}


def find(db: Database, collection: CollectionInfo) -> ModelChange | None:
    """The change that a collection is part of, as either of the two."""
    with db.transaction() as conn:
        found = _found(conn, _OF, {"id": collection.id})
    return found[0] if found else None


def expired(db: Database) -> list[ModelChange]:
    """Those whose former collection was to be kept until a time that is over."""
    with db.transaction() as conn:
        return _found(conn, _EXPIRED, {})


def check_outside(db: Database, collection: CollectionInfo, reason: str) -> None:
    """Raise InModelChange where a collection is one of two that are kept equal."""
    change = find(db, collection)
    if change is not None:
        raise InModelChange(name=collection.name, served=change.name, reason=reason)


def check_written(db: Database, collection: CollectionInfo) -> None:
    """Raise InModelChange where a collection only follows another one."""
    change = find(db, collection)
    if change is not None and change.other.id == collection.id:
        reason = f"it follows {change.name!r}, which takes your documents"
        raise InModelChange(name=collection.name, served=change.name, reason=reason)


def begin(
    db: Database,
    collection: CollectionInfo,
    space: Space,
    chunking: Chunking,
    queue: Queue,
    *,
    keep_seconds: float,
) -> ModelChange:
    """Make a collection for another space beside one, and list what happens to that from now on.

    Raises:
        ModelChangeRefused: it is of that space already.
        InModelChange: it changes its model already.
        TemplateUnfinished: the change to another template was cut off.
        BadName: the name for the new one is not free, or too long.
        NameInUse: others read its view, whose vectors will have another width.
        NotPermitted: the user neither owns the schema nor may act as its owner.
    """
    name = collection.name
    if space == collection.space:
        raise ModelChangeRefused(name=name, reason=f"its model is {space.name} already")
    check_outside(db, collection, "it changes its model already")
    with db.transaction() as conn:
        locks.own(conn, collection.id)
        collections.check_there(conn, collection)
        current = collections.by_id(conn, collection.id)
        if current.former_template is not None:
            raise TemplateUnfinished(name=name, template=current.template)
        chunking = replace(chunking, template=current.template)
        names.check_free(conn, [f"{name}{OLD}", f"{name}{NEXT}"])
        precision = collection.precision if space.provider == "local" else None
        vectors = VectorOptions(collection.reuse, precision)
        made = collections.create(conn, f"{name}{NEXT}", space, chunking, queue, vectors)
        values = {"collection_id": collection.id, "other_id": made.id}
        ownership.become_owner(conn)
        conn.execute(_SQL["copy_columns"], values)
        names.show(conn, made)
        names.check_replaceable(conn, collection, made)
        conn.execute(_SQL["begin"], values | {"name": name, "keep_seconds": keep_seconds})
        conn.execute(_SQL["copy_settings"], values)
        for each in (collection, made):
            number = sql.Literal(each.id)
            conn.execute(composed(_SQL["track"], each, collection_id=number))
        conn.execute(composed(_SQL["silence"], made))
        (change,) = _found(conn, _OF, {"id": collection.id})
    return change


def list_documents(db: Database, change: ModelChange) -> None:
    """List, as changed, what was there before changes were listed; in pages, so that a call that
    was cut off goes on where it was.
    """
    listed = change.listed
    while not listed:
        with _as_owner(db) as conn:
            page = composed(_SQL["list_page"], change.served)
            row = conn.execute(page, change.values | {"limit": KEYS_AT_ONCE}).fetchone()
            listed = row is None or bool(row[0])


def last_change(db: Database, change: ModelChange) -> int | None:
    """The number of the newest change that the other collection does not have; None without one."""
    with _as_owner(db) as conn:
        row = conn.execute(_SQL["last_change"], change.values).fetchone()
    return None if row is None else row[0]


def changes(db: Database, change: ModelChange, *, until: int) -> dict[str, list[int]]:
    """The first documents that changed until then, by key, with the numbers of their changes."""
    values = change.values | {"limit": CHANGES_AT_ONCE, "until": until}
    found: dict[str, list[int]] = {}
    with _as_owner(db) as conn:
        for number, key in conn.execute(_SQL["changes"], values):
            found.setdefault(key, []).append(number)
    return found


def forget_changes(db: Database, numbers: Sequence[int]) -> None:
    """The other collection has these by now."""
    with _as_owner(db) as conn:
        conn.execute(_SQL["forget_changes"], {"ids": list(numbers)})


def weights(db: Database, collection: CollectionInfo, keys: Sequence[str]) -> dict[str, int]:
    """Those of some keys that have a document, and about how many chunks it has."""
    with db.transaction() as conn:
        rows = conn.execute(composed(_SQL["weigh"], collection), {"keys": list(keys)})
        return dict(rows.fetchall())


def all_keys(db: Database, collection: CollectionInfo) -> Iterator[list[str]]:
    """The keys of all documents, a page at a time."""
    values: dict[str, object] = {"after": "", "limit": CHANGES_AT_ONCE}
    while True:
        with db.transaction() as conn:
            rows = conn.execute(composed(_SQL["all_keys"], collection), values)
            page = [key for (key,) in rows]
        if page:
            yield page
        if len(page) < CHANGES_AT_ONCE:
            return
        values["after"] = page[-1]


def in_pages(weighed: dict[str, int]) -> Iterator[list[str]]:
    """Keys of documents that have so many chunks, no more than fit into memory with their texts at
    a time, but for a single one.
    """
    page, held = list[str](), 0
    for key, chunks in weighed.items():
        if page and held + chunks > CHUNKS_AT_ONCE:
            yield page
            page, held = [], 0
        page.append(key)
        held += chunks
    if page:
        yield page


def lacking(conn: Connection[Any], change: ModelChange) -> int:
    """Documents that readers would miss, or see as they were before; 1,000 at the most."""
    other = sql.Identifier(change.other.documents)
    row = conn.execute(composed(_SQL["lacking"], change.served, other_documents=other)).fetchone()
    return 0 if row is None else int(row[0])


def open_jobs(db: Database, change: ModelChange) -> list[int]:
    """Jobs of which something is still to be embedded in the other collection."""
    with db.transaction() as conn:
        rows = conn.execute(_SQL["open_jobs"], change.values)
        return [job_id for (job_id,) in rows]


def failed_texts(db: Database, collection: CollectionInfo) -> int:
    """Texts of a collection that cannot be embedded."""
    with db.transaction() as conn:
        row = conn.execute(_SQL["failed"], {"collection_id": collection.id}).fetchone()
    return 0 if row is None else int(row[0])


def switch(db: Database, change: ModelChange, *, keep_seconds: float | None = None) -> ModelChange:
    """Let the other collection serve, in one transaction; the former one is kept equal from then
    on, as far as somebody follows.

    Raises:
        ModelChangeUnready: it lacks something.
        NameInUse: others read its view, whose vectors will have another width.
        LockNotAvailable: somebody reads the view for long.
    """
    served, other = change.served, change.other
    with db.transaction(name_holders=False) as conn:
        locks.own_all(conn, [served.id, other.id])
        ownership.become_owner(conn)
        held = conn.execute(_SQL["hold"], change.values).fetchone()
        if held is None:
            reason = "another command changed it meanwhile"
            raise ModelChangeUnready(name=change.name, reason=reason)
        if not held[0] or _is_behind(conn, change):
            reason = f"{change.other.name} is behind it"
            raise ModelChangeUnready(name=change.name, reason=reason)
        conn.execute(composed(_SQL["silence"], served))
        conn.execute(composed(_SQL["listen"], other))
        aside = f"{change.name}{NEXT if change.switched else OLD}"
        names.assign(conn, db, [Move(served, aside), Move(other, change.name)])
        for statement in ("forget_verdicts", "copy_verdicts"):
            conn.execute(counters.counting_failures(_SQL[statement]), change.values)
        conn.execute(_SQL["move_sync"], change.values)
        conn.execute(_SQL["switch"], change.values | {"keep_seconds": keep_seconds})
        (switched,) = _found(conn, _OF, {"id": other.id})
    return switched


def finish(db: Database, change: ModelChange, *, cascade: bool = False) -> list[str]:
    """Drop the collection that does not serve, and end the change; as `drop`."""

    def end(conn: Connection[Any]) -> None:
        ownership.become_owner(conn)
        conn.execute(_SQL["end"], change.values)
        conn.execute(_SQL["forget_all"], change.values)
        conn.execute(
            _SQL["succeed"],
            {"collection_id": change.other.id, "successor_id": change.served.id},
        )
        # Readers wait behind those who read now: for a moment only.
        conn.execute(locks.WAIT_AT_MOST, {"milliseconds": str(names.VIEW_WAIT_MS)})
        conn.execute(composed(_SQL["untrack"], change.served))

    return drop(db, change.other, cascade=cascade, along=end)


def _is_behind(conn: Connection[Any], change: ModelChange) -> bool:
    changed = conn.execute(_SQL["last_change"], change.values).fetchone()
    return changed != (None,) or lacking(conn, change) > 0


def _found(
    conn: Connection[Any], statement: sql.Composed, values: dict[str, Any]
) -> list[ModelChange]:
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(statement, values).fetchall()
    found = []
    for row in rows:
        served = collections.by_id(conn, row.pop("collection_id"))
        other = collections.by_id(conn, row.pop("other_id"))
        found.append(ModelChange(served=served, other=other, **row))
    return found


@contextmanager
def _as_owner(db: Database) -> Iterator[Connection[Any]]:
    with db.transaction() as conn:
        ownership.become_owner(conn)
        yield conn

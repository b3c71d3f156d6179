"""Syncs: collections that follow a table, what is known about each, and its outbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from psycopg import Connection
from psycopg.rows import class_row

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import counters, jobs
from embedfleet_schema.sync_errors import UnknownSync
from embedfleet_schema.turns import Turn
from embedfleet_schema.types import CollectionInfo

_SQL = load("sync")
_DUE, _VERIFICATION_DUE = (
    _SQL[name].format(verification_due=_SQL["verification_due"])
    for name in ("due", "is_verification_due")
)

SyncState = Literal["backfilling", "following", "paused", "broken"]

# Changes that are taken from the outbox at once, with as many keys; each has up to a hundred.
TAKEN = 2_000
# Documents of a page that is compared.
PAGE = 1_000


@dataclass(frozen=True, slots=True)
class SyncInfo:
    """A sync and where it stands.

    `relation` is the table by its number, `table` what it is called now. Of the rows that were
    there before, `backfilled` were read; the table had about `estimate` at its last analyze, less
    than 0 where there was none. `behind` counts keys that changed and are not followed yet, of a
    very long outbox its beginning; the oldest of them waits for `behind_seconds`. `differences` is
    what the last comparison found, at `verified_at`, and `problem` why it stands still.
    """

    id: int
    name: str
    collection_id: int
    relation: int
    table: str
    key: list[str]
    text: list[str]
    metadata: list[str]
    source: str
    layout: str
    created_at: datetime
    paused_at: datetime | None
    waits: bool
    backfill_after: list[str] | None
    backfilled: int
    estimate: float
    backfilled_at: datetime | None
    verify_due: bool
    verified_at: datetime | None
    differences: int | None
    problem: str | None
    behind: int
    behind_seconds: float

    @property
    def function(self) -> str:
        """The name of the function that its triggers call."""
        return f"_sync_{self.id}"

    @property
    def state(self) -> SyncState:
        if self.problem is not None:
            return "broken"
        if self.paused_at is not None:
            return "paused"
        return "following" if self.backfilled_at is not None else "backfilling"


class Taken(NamedTuple):
    """Changes of the outbox by number, with their keys; `emptied`: the table was truncated."""

    ids: list[int]
    keys: list[str]
    emptied: bool


def find(db: Database, collection: CollectionInfo) -> SyncInfo:
    """The sync of a collection.

    Raises:
        UnknownSync: it has none.
    """
    with db.transaction() as conn:
        found = listed(conn, collection_id=collection.id)
    if not found:
        raise UnknownSync(name=collection.name)
    return found[0]


def by_id(db: Database, sync_id: int) -> SyncInfo | None:
    with db.transaction() as conn:
        return next(iter(listed(conn, sync_id=sync_id)), None)


def list_all(db: Database) -> list[SyncInfo]:
    with db.transaction() as conn:
        return listed(conn)


def listed(
    conn: Connection[Any], *, sync_id: int | None = None, collection_id: int | None = None
) -> list[SyncInfo]:
    with conn.cursor(row_factory=class_row(SyncInfo)) as cursor:
        values = {"sync_id": sync_id, "collection_id": collection_id}
        return cursor.execute(_SQL["list"], values).fetchall()


def due(db: Database, *, verify_hours: float) -> dict[int, bool]:
    """The ids of those that are not paused, and whether each has something to do."""
    with db.transaction() as conn:
        return dict(conn.execute(_DUE, {"verify_hours": verify_hours}).fetchall())


def is_verification_due(db: Database, sync_id: int, *, verify_hours: float) -> bool:
    """Whether the table is to be compared with its collection: something was missed, or so many
    hours are over. After 0 hours it never is.
    """
    values = {"sync_id": sync_id, "verify_hours": verify_hours}
    with db.transaction() as conn:
        row = conn.execute(_VERIFICATION_DUE, values).fetchone()
        return row is not None and bool(row[0])


def listen(conn: Connection[Any]) -> None:
    conn.execute(_SQL["listen"])


def pause(db: Database, sync_id: int) -> None:
    """Changes are noted meanwhile, and followed later."""
    _run(db, "pause", sync_id)


def resume(db: Database, sync_id: int) -> None:
    _run(db, "resume", sync_id)


def note_problem(db: Database, sync_id: int, problem: str) -> None:
    _run(db, "note_problem", sync_id, problem=problem)


def go_on(db: Database, sync_id: int, layout: str) -> None:
    """Nothing stands in the way any more; what was missed is to be found."""
    _run(db, "go_on", sync_id, layout=layout)


def wait_for_changes(db: Database, sync_id: int) -> None:
    """Have whoever changes the table tell so."""
    _run(db, "wait_for_changes", sync_id)


def take(db: Database, sync_id: int) -> Taken:
    """The oldest changes; they stay in the outbox until `forget`."""
    with db.transaction() as conn:
        values = {"sync_id": sync_id, "limit": TAKEN}
        rows = conn.execute(_SQL["take"], values).fetchall()
    keys = dict.fromkeys(key for _, keys in rows for key in keys or ())
    return Taken([each for each, _ in rows], list(keys), any(keys is None for _, keys in rows))


def forget(db: Database, sync_id: int, taken: Taken) -> None:
    """What was taken is followed."""
    _run(db, "forget", sync_id, ids=taken.ids)


def pending(db: Database, sync_id: int, keys: Sequence[str]) -> set[str]:
    """Those of some keys that changed and are not followed yet."""
    with db.transaction() as conn:
        values = {"sync_id": sync_id, "keys": list(keys)}
        return {key for (key,) in conn.execute(_SQL["pending"], values)}


def is_emptied(db: Database, sync_id: int) -> bool:
    """Whether the table was truncated, and that is not followed yet."""
    with db.transaction() as conn:
        row = conn.execute(_SQL["is_emptied"], {"sync_id": sync_id}).fetchone()
        return row is not None and bool(row[0])


def move_backfill(db: Database, sync_id: int, after: Sequence[str], rows: int) -> None:
    """So many more rows were read, up to a key."""
    _run(db, "move_backfill", sync_id, after=list(after), rows=rows)


def end_backfill(db: Database, sync_id: int) -> None:
    _run(db, "end_backfill", sync_id)


def end_verification(db: Database, sync_id: int, differences: int, *, mended: bool) -> None:
    _run(db, "end_verification", sync_id, differences=differences, mended=mended)


def job_of(db: Database, collection: CollectionInfo, sync_id: int, *, backfill: bool) -> int:
    """The job that takes documents now: a bulk one for all rows that were there, and an interactive
    one a day for what changes. What it is given waits in no other way than that of any enqueue.
    """
    values = {"sync_id": sync_id, "backfill": backfill}
    with db.transaction() as conn:
        row = conn.execute(_SQL["current_job"], values).fetchone()
        if row is not None:
            return int(row[0])
        turn = Turn("bulk" if backfill else "interactive")
        job_id = jobs.create(conn, collection, "enqueue", turn=turn)
        # It takes more for as long as it is the current one; nobody waits for its end.
        jobs.loaded(conn, job_id)
        conn.execute(_SQL["set_job"], values | {"job_id": job_id})
        return job_id


def own_keys(
    db: Database, collection: CollectionInfo, source: str, keys: Sequence[str]
) -> list[str]:
    """Those of some keys whose documents came from a table."""
    values = {"keys": list(keys), "source": source}
    with db.transaction() as conn:
        return [key for (key,) in conn.execute(composed(_SQL["own_keys"], collection), values)]


def own_documents(
    db: Database, collection: CollectionInfo, source: str, after: int
) -> tuple[int | None, list[str]]:
    """The keys of a page of documents that came from a table, and the number of its last document;
    None behind the last page.
    """
    values = {"source": source, "after": after, "limit": PAGE}
    with db.transaction() as conn:
        row = conn.execute(composed(_SQL["own_documents"], collection), values).fetchone()
    return (None, []) if row is None else (row[0], row[1] or [])


def own_verdicts(db: Database, collection: CollectionInfo, source: str, after: str) -> list[str]:
    """The keys of a page of rows that were not accepted."""
    values = {"collection_id": collection.id, "source": source, "after": after, "limit": PAGE}
    with db.transaction() as conn:
        return [key for (key,) in conn.execute(_SQL["own_verdicts"], values)]


def forget_verdicts(
    db: Database, collection: CollectionInfo, source: str, keys: Sequence[str]
) -> None:
    """Forget why rows were not accepted that are gone."""
    values = {"collection_id": collection.id, "source": source, "keys": list(keys)}
    with db.transaction() as conn:
        conn.execute(counters.counting_failures(_SQL["forget_verdicts"]), values)


def _run(db: Database, statement: str, sync_id: int, **values: object) -> None:
    with db.transaction() as conn:
        conn.execute(_SQL[statement], {"sync_id": sync_id, **values})

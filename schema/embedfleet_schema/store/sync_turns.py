"""Turns: one process at a time moves the documents of a sync, and writes are fenced by its turn.

Reading a row and storing it are two transactions. If two processes did that with one key, the older
read could be stored last. So each waits for its turn, by an advisory lock that a transaction of its
own holds; and who was frozen and comes back when others had their turn can commit nothing: each of
its transactions ends with the question whether the turn is still its own. Whoever begins a turn
waits for those that were told yes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import Connection

from embedfleet_schema.database import SYNC_LOCK_SPACE, Database
from embedfleet_schema.session import IDLE_S
from embedfleet_schema.statements import load
from embedfleet_schema.store.syncs import SyncInfo
from embedfleet_schema.sync_errors import SyncStopped, TurnLost, UnknownSync

_SQL = load("sync")


class FencedDatabase(Database):
    """A database for one turn: its transactions are committed only while that lasts, and none
    begins once the process is told to stop.
    """

    def __init__(
        self, db: Database, sync: SyncInfo, turn: int, stopped: Callable[[], bool]
    ) -> None:
        # No `super`: the pool, and all else, are those of `db`.
        self._db = db
        self._sync = sync
        self._turn = turn
        self._stopped = stopped

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a database has
        return getattr(self._db, name)

    @contextmanager
    def transaction(self, *, name_holders: bool = True) -> Iterator[Connection[Any]]:
        """As of the database.

        Raises:
            TurnLost: another process took over; nothing was committed.
            SyncStopped: this process is told to stop. Whoever tries again while the database is
                away would take minutes to notice.
        """
        if self._stopped():
            raise SyncStopped(name=self._sync.name, reason="its process is told to stop")
        values = {"sync_id": self._sync.id, "turn": self._turn}
        with self._db.transaction(name_holders=name_holders) as conn:
            yield conn
            # Last, when all other locks are held: who drops the collection waits for those first.
            if conn.execute(_SQL["fence"], values).fetchone() is None:
                raise TurnLost(name=self._sync.name)


@contextmanager
def taken(
    db: Database, sync: SyncInfo, *, waits: bool, stopped: Callable[[], bool] = lambda: False
) -> Iterator[FencedDatabase | None]:
    """Have the turn for the length of the block; None where another has it, and this one does not
    wait.

    Raises:
        Blocked: it was not to be had within `lock_wait_s`.
        UnknownSync: it was dropped.
    """
    conn = db.begun(db.direct_url)
    try:
        if not _locks(db, conn, sync.id, waits=waits):
            yield None
            return
        with db.transaction() as other:
            row = other.execute(_SQL["begin_turn"], {"sync_id": sync.id}).fetchone()
        if row is None:
            raise UnknownSync(name=sync.name)
        with _beating(conn):
            yield FencedDatabase(db, sync, int(row[0]), stopped)
    finally:
        # A pooler throws a session away that is left in the middle of a transaction.
        with suppress(psycopg.Error):
            conn.rollback()
        conn.close()


def _locks(db: Database, conn: Connection[Any], sync_id: int, *, waits: bool) -> bool:
    values = {"space": SYNC_LOCK_SPACE, "sync_id": sync_id}
    if not waits:
        row = conn.execute(_SQL["try_lock"], values).fetchone()
        return row is not None and bool(row[0])
    try:
        conn.execute(_SQL["lock"], values)
    except psycopg.errors.LockNotAvailable as error:
        raise db.blocked([SYNC_LOCK_SPACE]) from error
    return True


@contextmanager
def _beating(conn: Connection[Any]) -> Iterator[None]:
    """Say now and then that this process is alive, or the server ends the transaction."""
    over = threading.Event()

    def beat() -> None:
        with suppress(psycopg.Error):
            while not over.wait(IDLE_S / 4):
                conn.execute(_SQL["beat"])

    thread = threading.Thread(target=beat, name="embedfleet-sync-turn", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

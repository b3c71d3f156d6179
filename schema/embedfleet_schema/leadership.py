"""A right that one process of the whole fleet has at a time."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import Connection

from embedfleet_schema.database import LOCK_SPACE, Database
from embedfleet_schema.errors import EmbedfleetError
from embedfleet_schema.statements import load

_SQL = load("leadership")

# Numbers of advisory locks; positive ones are collections, 0 is the sweep, -1 migrations.
DISK_PROBE = -2
PROVIDER_BATCHES = -3
COMPARISON = -4


class Leadership:
    """An advisory lock held by a transaction that stays open for `seconds` and does nothing else.

    Without `seconds` it is held until it is given back.

    Such a transaction has no snapshot, so it holds up no vacuum; and unlike a lock of the session
    it works behind a pooler, where it goes past it if it may: it would keep one of few sessions. A
    process that dies gives it back with its connection; it may be idle for as long as it
    likes.
    """

    def __init__(self, db: Database, lock: int, seconds: float | None = None) -> None:
        self._db = db
        self._lock = lock
        self._seconds = seconds
        self._guard = threading.Lock()
        self._holding: Connection[Any] | None = None

    def take(self) -> bool:
        """Whether this process got it just now; False too where nobody can tell."""
        with self._guard:
            if self._holding is not None:
                return False
            try:
                conn = self._db.begun(self._db.direct_url)
            except EmbedfleetError:
                return False
            if not self._locks(conn):
                conn.close()
                return False
            self._holding = conn
        if self._seconds is not None:
            timer = threading.Timer(self._seconds, self.give_back)
            timer.daemon = True
            timer.start()
        return True

    def give_back(self) -> None:
        with self._guard:
            if self._holding is not None:
                # A pooler throws a session away that is left in the middle of a transaction.
                with suppress(psycopg.Error):
                    self._holding.rollback()
                self._holding.close()
                self._holding = None

    def _locks(self, conn: Connection[Any]) -> bool:
        try:
            row = conn.execute(_SQL["try"], {"space": LOCK_SPACE, "lock": self._lock}).fetchone()
        except psycopg.Error:
            return False
        return row is not None and bool(row[0])

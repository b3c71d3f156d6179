"""Requests of the HTTP API that count once, by the name that the client gave them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load

_SQL = load("idempotency")

# How long a request is left to the process that has it without a word from there.
LEASE_S = 60.0


@dataclass(frozen=True, slots=True)
class Former:
    """The request that came first with a name: SHA-256 of what it asked, and of its body once that
    had come; what came of it.
    """

    request: bytes
    body: bytes | None
    counts: dict[str, Any] | None
    job_id: int | None


@dataclass(frozen=True, slots=True)
class Once:
    """The name of a request, as its SHA-256, among those of one API key."""

    db: Database
    api_key_id: int
    sha256: bytes

    @property
    def _named(self) -> dict[str, Any]:
        return {"api_key_id": self.api_key_id, "sha256": self.sha256, "lease_s": LEASE_S}

    def begin(self, request: bytes) -> Former | None:
        """None where this call has to do the work, from now on alone; else what came first."""
        with self.db.transaction() as conn:
            conn.execute(_SQL["forget"], self._named)
            if conn.execute(_SQL["begin"], self._named | {"request": request}).fetchone():
                return None
            cursor = conn.cursor(row_factory=class_row(Former))
            return cursor.execute(_SQL["found"], self._named).fetchone()

    def extend(self) -> None:
        """The work goes on."""
        with self.db.transaction() as conn:
            conn.execute(_SQL["extend"], self._named)

    def finish(self, body: bytes, counts: Mapping[str, Any], job_id: int) -> None:
        """Keep what came of it for a day, or for as long as the job is kept."""
        values = {"body": body, "counts": Jsonb(dict(counts)), "job_id": job_id}
        with self.db.transaction() as conn:
            conn.execute(_SQL["finish"], self._named | values)

    def give_up(self) -> None:
        """Nothing came of it: the name is free again."""
        with self.db.transaction() as conn:
            conn.execute(_SQL["give_up"], self._named)

"""Keys of the HTTP API: made, found by their hash, revoked. The keys themselves are nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from psycopg.rows import class_row, dict_row

from embedfleet_schema.database import Database
from embedfleet_schema.http_errors import ApiKeyExists, UnknownApiKey
from embedfleet_schema.statements import load

_SQL = load("api_keys")

# embeddings: vectors of texts. search: hits. documents: enqueue, and see jobs.
Scope = Literal["embeddings", "search", "documents"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
# Requests a minute, where nobody says otherwise.
PER_MINUTE = 600


@dataclass(frozen=True, slots=True)
class ApiKeyInfo:
    """A key without itself: what it may do, in which collections (None: all), and how often.

    `used_at` is right to the hour.
    """

    id: int
    name: str
    scopes: list[Scope]
    collections: list[str] | None
    per_minute: int
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None
    is_expired: bool

    @property
    def state(self) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.is_expired else "active"


def create(
    db: Database,
    name: str,
    sha256: bytes,
    *,
    scopes: Sequence[Scope],
    collections: Sequence[str] | None,
    per_minute: int,
    expires_s: float | None,
) -> ApiKeyInfo:
    """Note a key by its hash.

    Raises:
        ApiKeyExists: the name is taken, if only by a key that is revoked.
    """
    values = {
        "name": name,
        "sha256": sha256,
        "scopes": list(scopes),
        "collections": list(collections) if collections is not None else None,
        "per_minute": per_minute,
        "expires_s": expires_s,
    }
    with db.transaction() as conn, conn.cursor(row_factory=class_row(ApiKeyInfo)) as cursor:
        made = cursor.execute(_SQL["create"], values).fetchone()
    if made is None:
        raise ApiKeyExists(name=name)
    return made


def find(db: Database, sha256: bytes) -> ApiKeyInfo | None:
    """The key of this hash, if it holds now; that it is used is noted."""
    with db.transaction() as conn:
        cursor = conn.cursor(row_factory=dict_row)
        row = cursor.execute(_SQL["find"], {"sha256": sha256}).fetchone()
        if row is None:
            return None
        if row.pop("unnoted"):
            conn.execute(_SQL["note_use"], {"id": row["id"]})
    return ApiKeyInfo(**row)


def listed(db: Database) -> list[ApiKeyInfo]:
    """All keys by name, revoked ones too."""
    with db.transaction() as conn, conn.cursor(row_factory=class_row(ApiKeyInfo)) as cursor:
        return cursor.execute(_SQL["listed"]).fetchall()


def revoke(db: Database, name: str) -> None:
    """End a key for good.

    Raises:
        UnknownApiKey: there is none of this name.
    """
    with db.transaction() as conn:
        if not conn.execute(_SQL["revoke"], {"name": name}).rowcount:
            raise UnknownApiKey(name=name)

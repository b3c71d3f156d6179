"""Tables of the HTTP API: who may call it, and which requests count once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from embedfleet_schema.tables.declarations import SCHEMA, Base, identity, timestamp


class ApiKey(Base):
    """Who may call the HTTP API, and what that key may do; the key itself is nowhere.

    `collections` is None for all of them. `used_at` is right to the hour.
    """

    __tablename__ = "api_key"

    id: Mapped[int] = identity()
    name: Mapped[str] = mapped_column(unique=True)
    sha256: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    collections: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    per_minute: Mapped[int]
    created_at: Mapped[datetime] = timestamp()
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("octet_length(sha256) = 32", name="sha256"),
        CheckConstraint("per_minute > 0", name="per_minute"),
    )


class IdempotencyKey(Base):
    """A request that counts once: the SHA-256 of the client's name for it, of what it asks, and of
    its body once all of that has come. `counts` is what came of it, in `job_id`.
    """

    __tablename__ = "idempotency_key"

    api_key_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(f"{SCHEMA}.api_key.id", ondelete="CASCADE"), primary_key=True
    )
    sha256: Mapped[bytes] = mapped_column(primary_key=True)
    request: Mapped[bytes]
    body: Mapped[bytes | None]
    counts: Mapped[dict[str, Any] | None]
    job_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey(f"{SCHEMA}.job.id", ondelete="CASCADE"), index=True
    )
    created_at: Mapped[datetime] = timestamp()
    busy_until: Mapped[datetime]

    __table_args__ = (
        CheckConstraint("octet_length(sha256) = 32", name="sha256"),
        CheckConstraint("(body IS NULL) = (counts IS NULL)", name="ended"),
    )

"""Tables about queries: vectors that are known, and texts whose vectors clients ask workers for."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index
from sqlalchemy import text as expression
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.orm import Mapped, mapped_column

from embedfleet_schema.tables.declarations import SCHEMA, Base, timestamp

# So PostgreSQL names the type in our sessions, where nobody's schema is searched: to compare the
# models with a database is a developer's affair, whose pgvector is where it usually is.
ischema_names["public.vector"] = VECTOR


class QueryVector(Base):
    """The vector of a query, by the SHA-256 of its text: a cache that may be emptied any time."""

    __tablename__ = "query_vector"

    space_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(f"{SCHEMA}.space.id", ondelete="CASCADE"), primary_key=True
    )
    sha256: Mapped[bytes] = mapped_column(primary_key=True)
    embedding: Mapped[Any] = mapped_column(VECTOR, nullable=False)
    used_at: Mapped[datetime] = timestamp()

    # Whoever searches may write here: a row is no larger than the longest vector, 16,000 floats.
    # Not logged: a crash of the server empties it, which costs a few queries.
    __table_args__ = (
        CheckConstraint("octet_length(sha256) = 32", name="sha256"),
        {"prefixes": ["UNLOGGED"]},
    )


class QueryRequest(Base):
    """A text whose vector somebody asks for. It goes when that is read, or after a minute.

    The text goes with the answer: `vector`, or the `reason` why there is none. `problem` is why a
    worker could not take it, for the case that no other one can. `kind` is as what it is embedded:
    `query` or `document`. `tokens` come with the vector.
    """

    __tablename__ = "query_request"

    id: Mapped[UUID] = mapped_column(
        primary_key=True, server_default=expression("gen_random_uuid()")
    )
    space_id: Mapped[int] = mapped_column(BigInteger)
    queue: Mapped[str]
    asked_by: Mapped[str]
    text: Mapped[str | None]
    asked_at: Mapped[datetime] = timestamp()
    rung_at: Mapped[datetime] = timestamp()
    claimed_until: Mapped[datetime | None]
    vector: Mapped[Any | None] = mapped_column(VECTOR)
    reason: Mapped[str | None]
    problem: Mapped[str | None]
    kind: Mapped[str] = mapped_column(server_default=expression("'query'"))
    tokens: Mapped[int | None]

    __table_args__ = (
        Index(
            "ix_query_request_open",
            "queue",
            "asked_at",
            postgresql_where=expression("text IS NOT NULL"),
        ),
        {"prefixes": ["UNLOGGED"]},
    )


class QueryLimit(Base):
    """How many texts a minute a role may have embedded by SQL, and how long they may be.

    `role` is who logged in; empty for all that have no row. `paid_per_minute` is for models behind
    an API.
    """

    __tablename__ = "query_limit"

    role: Mapped[str] = mapped_column(primary_key=True)
    per_minute: Mapped[int]
    paid_per_minute: Mapped[int]
    characters: Mapped[int]

    __table_args__ = (
        CheckConstraint("per_minute >= 0", name="per_minute"),
        CheckConstraint("paid_per_minute >= 0", name="paid_per_minute"),
        CheckConstraint("characters > 0", name="characters"),
    )


class QueryRate(Base):
    """The theoretical arrival time (GCRA) of a role's requests."""

    __tablename__ = "query_rate"

    role: Mapped[str] = mapped_column(primary_key=True)
    paid: Mapped[bool] = mapped_column(primary_key=True)
    tat: Mapped[datetime]

    __table_args__ = ({"prefixes": ["UNLOGGED"]},)

"""The fixed tables as SQLAlchemy models: the ecosystem's way to read and evolve them.

Hot paths use the named SQL in `sql/`; the vector tables and views, one per collection, are made in
`store.collections`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA = "embedfleet"

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    metadata = MetaData(schema=SCHEMA, naming_convention=NAMES)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads the plain class attribute
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        bytes: LargeBinary,
        str: Text,
    }


def _id() -> Mapped[int]:
    return mapped_column(BigInteger, Identity(always=True), primary_key=True)


def _now() -> Mapped[datetime]:
    return mapped_column(server_default=text("now()"))


def _belongs_to(table: str) -> Mapped[int]:
    return mapped_column(BigInteger, ForeignKey(f"{SCHEMA}.{table}.id", ondelete="CASCADE"))


def _count() -> Mapped[int]:
    return mapped_column(BigInteger, server_default=text("0"))


class Space(Base):
    """An embedding space; immutable but for the pause."""

    __tablename__ = "space"

    id: Mapped[int] = _id()
    fingerprint: Mapped[bytes] = mapped_column(unique=True)
    provider: Mapped[str]
    model: Mapped[str]
    revision: Mapped[str]
    dimensions: Mapped[int]
    max_tokens: Mapped[int]
    pooling: Mapped[str]
    normalized: Mapped[bool]
    document_prompt: Mapped[str]
    query_prompt: Mapped[str]
    storage: Mapped[str]
    metric: Mapped[str]
    created_at: Mapped[datetime] = _now()

    __table_args__ = (
        CheckConstraint("storage IN ('vector', 'halfvec')", name="storage"),
        CheckConstraint("metric IN ('cosine', 'l2', 'inner_product')", name="metric"),
        CheckConstraint("dimensions BETWEEN 1 AND 16000", name="dimensions"),
    )


class Collection(Base):
    """A named set of documents, served from one space."""

    __tablename__ = "collection"

    id: Mapped[int] = _id()
    name: Mapped[str] = mapped_column(unique=True)
    space_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(f"{SCHEMA}.space.id"))
    chunk_size: Mapped[int]
    chunk_overlap: Mapped[int]
    chunk_mode: Mapped[str]
    tokenizer: Mapped[str]
    queue: Mapped[str]
    created_at: Mapped[datetime] = _now()

    __table_args__ = (CheckConstraint("name ~ '^[a-z][a-z0-9_]{0,62}$'", name="name"),)


class Document(Base):
    """A caller's document. Readers see the chunks of `live_version`; `version` is the newest."""

    __tablename__ = "document"

    id: Mapped[int] = _id()
    collection_id: Mapped[int] = _belongs_to("collection")
    key: Mapped[str]
    digest: Mapped[bytes]
    version: Mapped[int]
    live_version: Mapped[int | None]
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    updated_at: Mapped[datetime] = _now()

    __table_args__ = (
        UniqueConstraint("collection_id", "key"),
        CheckConstraint("live_version <= version", name="live_version"),
        Index(
            "ix_document_waiting",
            "collection_id",
            postgresql_where=text("live_version IS DISTINCT FROM version"),
        ),
    )


class Chunk(Base):
    """A piece of one version of a document; `sha256` addresses its vector."""

    __tablename__ = "chunk"

    id: Mapped[int] = _id()
    collection_id: Mapped[int] = _belongs_to("collection")
    document_id: Mapped[int] = _belongs_to("document")
    version: Mapped[int]
    position: Mapped[int]
    start_offset: Mapped[int | None]
    end_offset: Mapped[int | None]
    tokens: Mapped[int]
    sha256: Mapped[bytes]
    content: Mapped[str]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")

    __table_args__ = (
        UniqueConstraint("document_id", "version", "position"),
        Index("ix_chunk_collection_id_sha256", "collection_id", "sha256"),
    )


class Job(Base):
    """One call of enqueue, repair or retry: what a person waits for, pauses, cancels."""

    __tablename__ = "job"

    id: Mapped[int] = _id()
    collection_id: Mapped[int] = _belongs_to("collection")
    kind: Mapped[str]
    documents: Mapped[int] = _count()
    unchanged: Mapped[int] = _count()
    rejected: Mapped[int] = _count()
    chunks: Mapped[int] = _count()
    reused: Mapped[int] = _count()
    created_at: Mapped[datetime] = _now()
    loaded_at: Mapped[datetime | None]
    paused_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]

    __table_args__ = (CheckConstraint("kind IN ('enqueue', 'repair', 'retry')", name="kind"),)


class Batch(Base):
    """The unit that a worker claims.

    `attempt` counts claims and fences the commit; `errors` and `crashes` are what is charged.
    """

    __tablename__ = "batch"

    id: Mapped[int] = _id()
    job_id: Mapped[int] = _belongs_to("job")
    collection_id: Mapped[int] = _belongs_to("collection")
    queue: Mapped[str]
    state: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    run_after: Mapped[datetime] = _now()
    chunks: Mapped[int]
    tokens: Mapped[int] = mapped_column(BigInteger)
    hashes: Mapped[list[bytes]] = mapped_column(ARRAY(LargeBinary))
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    errors: Mapped[int] = mapped_column(server_default=text("0"))
    crashes: Mapped[int] = mapped_column(server_default=text("0"))
    owner: Mapped[UUID | None]
    leased_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    reason: Mapped[str | None]
    parent_id: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = _now()
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(
            "state IN ('pending', 'held', 'leased', 'done', 'split', 'dead', 'cancelled')",
            name="state",
        ),
        CheckConstraint("(state = 'leased') = (lease_until IS NOT NULL)", name="lease"),
        Index(
            "ix_batch_claim",
            "queue",
            "priority",
            "run_after",
            "id",
            postgresql_where=text("state = 'pending'"),
        ),
        Index("ix_batch_lease", "lease_until", postgresql_where=text("state = 'leased'")),
        Index("ix_batch_job_id_state", "job_id", "state"),
        Index(
            "ix_batch_open",
            "collection_id",
            postgresql_where=text("state IN ('pending', 'held', 'leased')"),
        ),
    )


class Failure(Base):
    """A chunk that can not be embedded (`sha256` is set), or a document that was not accepted."""

    __tablename__ = "failure"

    id: Mapped[int] = _id()
    collection_id: Mapped[int] = _belongs_to("collection")
    sha256: Mapped[bytes | None]
    document_key: Mapped[str | None]
    code: Mapped[str]
    reason: Mapped[str]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = _now()

    __table_args__ = (
        CheckConstraint("(sha256 IS NULL) <> (document_key IS NULL)", name="subject"),
        UniqueConstraint("collection_id", "sha256"),
        UniqueConstraint("collection_id", "document_key"),
    )


class Worker(Base):
    """A worker process: its heartbeat and what it has done."""

    __tablename__ = "worker"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    hostname: Mapped[str]
    pid: Mapped[int]
    queues: Mapped[list[str]] = mapped_column(ARRAY(Text))
    slots: Mapped[int]
    device: Mapped[str]
    version: Mapped[str]
    batches: Mapped[int] = _count()
    chunks: Mapped[int] = _count()
    tokens: Mapped[int] = _count()
    started_at: Mapped[datetime] = _now()
    last_seen: Mapped[datetime] = _now()
    stopped_at: Mapped[datetime | None]

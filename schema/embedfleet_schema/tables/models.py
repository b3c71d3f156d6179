"""The fixed tables as SQLAlchemy models: the ecosystem's way to read and evolve them.

Hot paths use the named SQL in `sql/`; the tables and the view of each collection are made by a
function of migration 0017.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    SmallInteger,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from embedfleet_schema.tables import change_models, mirror_models
from embedfleet_schema.tables.awaited_models import AwaitedBatch
from embedfleet_schema.tables.check_models import SpaceCheck
from embedfleet_schema.tables.counter_models import CollectionCounter, JobCounter, counter_delta
from embedfleet_schema.tables.declarations import (
    SCHEMA,
    TRACEPARENT,
    Base,
    belongs_to,
    identity,
    tally,
    timestamp,
)
from embedfleet_schema.tables.http_models import ApiKey, IdempotencyKey
from embedfleet_schema.tables.index_models import CollectionColumn, CollectionIndex
from embedfleet_schema.tables.provider_models import LimitGroup, ProviderBatch, RateLimit, Usage
from embedfleet_schema.tables.query_models import QueryLimit, QueryRate, QueryRequest, QueryVector
from embedfleet_schema.tables.sync_models import SyncOutbox, TableSync
from embedfleet_schema.tables.tenant_models import Tenant, TenantShare
from embedfleet_schema.tables.webhook_models import Webhook
from embedfleet_schema.tables.worker_models import Worker

__all__ = [
    "SCHEMA",
    "ApiKey",
    "AwaitedBatch",
    "Base",
    "Batch",
    "Collection",
    "CollectionColumn",
    "CollectionCounter",
    "CollectionIndex",
    "Failure",
    "IdempotencyKey",
    "Job",
    "JobCounter",
    "LimitGroup",
    "ProviderBatch",
    "QueryLimit",
    "QueryRate",
    "QueryRequest",
    "QueryVector",
    "RateLimit",
    "Space",
    "SpaceCheck",
    "SyncOutbox",
    "TableSync",
    "Tenant",
    "TenantShare",
    "Usage",
    "Webhook",
    "Worker",
    "change_models",
    "counter_delta",
    "mirror_models",
]


class Space(Base):
    """An embedding space; immutable but for the pause."""

    __tablename__ = "space"

    id: Mapped[int] = identity()
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
    created_at: Mapped[datetime] = timestamp()
    paused_at: Mapped[datetime | None]
    pause_code: Mapped[str | None]
    pause_reason: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("storage IN ('vector', 'halfvec')", name="storage"),
        CheckConstraint("metric IN ('cosine', 'l2', 'inner_product')", name="metric"),
        CheckConstraint("dimensions BETWEEN 1 AND 16000", name="dimensions"),
    )


class Collection(Base):
    """A named set of documents, served from one space."""

    __tablename__ = "collection"

    id: Mapped[int] = identity()
    name: Mapped[str] = mapped_column(unique=True)
    space_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(f"{SCHEMA}.space.id"))
    chunk_size: Mapped[int]
    chunk_overlap: Mapped[int]
    chunk_mode: Mapped[str]
    tokenizer: Mapped[str]
    queue: Mapped[str]
    created_at: Mapped[datetime] = timestamp()
    too_long: Mapped[str] = mapped_column(server_default=text("'reject'"))
    reuse: Mapped[str] = mapped_column(server_default=text("'space'"))
    template: Mapped[str] = mapped_column(server_default=text("''"))
    former_template: Mapped[str | None]
    precision: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("name ~ '^[a-z][a-z0-9_]{0,62}$'", name="name"),
        # The number of an advisory lock, which is an int4 beside our own space.
        CheckConstraint("id BETWEEN 1 AND 2147483647", name="id"),
        CheckConstraint("reuse IN ('space', 'none')", name="reuse"),
        CheckConstraint("too_long IN ('reject', 'truncate', 'split')", name="too_long"),
        CheckConstraint("precision = 'float32'", name="precision"),
        Index("ix_collection_space_id_id", "space_id", "id"),
    )


class Job(Base):
    """One call of enqueue, repair, retry or set_template: what a person waits for, pauses, cancels.

    `awaited` counts texts of its documents that batches of other jobs had already.
    `unsettled_usd` is what was reserved for calls whose answers never came: they may be paid for.
    Until it is loaded its producer says again and again that it lives, as workers extend leases.
    `wanted_tokens` are those of texts that it had embedded or waits for: `lane_by_size` has them
    decide its lane. `traceparent` is its trace as W3C writes it; its batches carry it along.
    """

    __tablename__ = "job"

    id: Mapped[int] = identity()
    collection_id: Mapped[int] = belongs_to("collection")
    kind: Mapped[str]
    documents: Mapped[int] = tally()
    unchanged: Mapped[int] = tally()
    rejected: Mapped[int] = tally()
    chunks: Mapped[int] = tally()
    reused: Mapped[int] = tally()
    created_at: Mapped[datetime] = timestamp()
    loaded_at: Mapped[datetime | None]
    paused_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    budget_usd: Mapped[Decimal | None]
    unsettled_usd: Mapped[Decimal] = mapped_column(server_default=text("0"))
    pause_reason: Mapped[str | None]
    delivery: Mapped[str] = mapped_column(server_default=text("'direct'"))
    failed: Mapped[int] = tally()
    loading_until: Mapped[datetime] = mapped_column(
        server_default=text("(now() + '1 day'::interval)")
    )
    interrupted_at: Mapped[datetime | None]
    awaited: Mapped[int] = tally()
    tenant: Mapped[str] = mapped_column(server_default=text("'default'"))
    lane: Mapped[str] = mapped_column(server_default=text("'bulk'"))
    lane_by_size: Mapped[bool] = mapped_column(server_default=text("false"))
    wanted_tokens: Mapped[int] = tally()
    traceparent: Mapped[str | None]

    __table_args__ = (
        CheckConstraint(TRACEPARENT, name="traceparent"),
        CheckConstraint("delivery IN ('direct', 'provider_batch')", name="delivery"),
        CheckConstraint("lane IN ('interactive', 'bulk')", name="lane"),
        CheckConstraint(
            "kind IN ('enqueue', 'repair', 'retry', 'template', 'migrate')", name="kind"
        ),
        CheckConstraint("budget_usd > 0", name="budget_usd"),
        Index("ix_job_collection_id", "collection_id"),
        Index(
            "ix_job_stopped",
            "id",
            postgresql_where=text("paused_at IS NOT NULL OR cancelled_at IS NOT NULL"),
        ),
    )


class Batch(Base):
    """The unit that a worker claims.

    `attempt` counts claims and fences the commit; `errors` and `crashes` are what is charged.
    `stored` counts those of its `chunks` that got their vector: answers are stored as they arrive.
    Of a batch that ended, `chunks` are those that got a vector or failed: what was deleted before
    is in no count. Workers claim what is `direct`; what a provider batch has leased has no other
    owner.
    `reserved_usd` is what a lease may still cost a job that has a budget. `collection_id` is that
    of its job, and `space_id` that of its collection, for indexes. `priority` is its lane, and
    `start_tag` its place there, among those of all tenants.
    """

    __tablename__ = "batch"

    id: Mapped[int] = identity()
    job_id: Mapped[int] = belongs_to("job")
    collection_id: Mapped[int] = mapped_column(BigInteger)
    queue: Mapped[str]
    delivery: Mapped[str] = mapped_column(server_default=text("'direct'"))
    state: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    run_after: Mapped[datetime] = timestamp()
    chunks: Mapped[int]
    stored: Mapped[int] = mapped_column(server_default=text("0"))
    tokens: Mapped[int] = mapped_column(BigInteger)
    texts: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    errors: Mapped[int] = mapped_column(server_default=text("0"))
    crashes: Mapped[int] = mapped_column(server_default=text("0"))
    reserved_usd: Mapped[Decimal | None]
    owner: Mapped[UUID | None]
    leased_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    reason: Mapped[str | None]
    parent_id: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = timestamp()
    finished_at: Mapped[datetime | None]
    provider_batch_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey(f"{SCHEMA}.provider_batch.id")
    )
    space_id: Mapped[int] = mapped_column(BigInteger)
    start_tag: Mapped[float] = mapped_column(server_default=text("0"))
    traceparent: Mapped[str | None]

    __table_args__ = (
        CheckConstraint(
            "state IN ('pending', 'held', 'leased', 'done', 'split', 'dead', 'cancelled')",
            name="state",
        ),
        CheckConstraint("delivery IN ('direct', 'provider_batch')", name="delivery"),
        CheckConstraint("(state = 'leased') = (lease_until IS NOT NULL)", name="lease"),
        Index(
            "ix_batch_claim",
            "queue",
            "priority",
            "start_tag",
            "run_after",
            "id",
            postgresql_where=text("state = 'pending' AND delivery = 'direct'"),
        ),
        Index(
            "ix_batch_claim_excluding",
            "space_id",
            "queue",
            "priority",
            "start_tag",
            "run_after",
            "id",
            postgresql_where=text("state = 'pending' AND delivery = 'direct'"),
        ),
        Index(
            "ix_batch_unfiled",
            "space_id",
            "priority",
            "run_after",
            "id",
            postgresql_where=text("state = 'pending' AND delivery = 'provider_batch'"),
        ),
        Index("ix_batch_held", "space_id", "job_id", postgresql_where=text("state = 'held'")),
        Index("ix_batch_leased", "delivery", "queue", postgresql_where=text("state = 'leased'")),
        Index("ix_batch_job_id_state", "job_id", "state"),
        Index(
            "ix_batch_finished",
            "job_id",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
        Index(
            "ix_batch_reason",
            "job_id",
            "id",
            postgresql_where=text("reason IS NOT NULL AND state IN ('pending', 'held')"),
        ),
        Index(
            "ix_batch_open",
            "collection_id",
            postgresql_where=text("state IN ('pending', 'held', 'leased')"),
        ),
        Index(
            "ix_batch_provider_batch_id",
            "provider_batch_id",
            postgresql_where=text("provider_batch_id IS NOT NULL"),
        ),
    )


class Failure(Base):
    """A text that can not be embedded (`text_id` is set), or a document that was not accepted.

    `retried_by` is the job that enqueued the text again: while it is not cancelled, documents wait
    for what becomes of it. `source` is the file that a document which was not accepted lies in.
    """

    __tablename__ = "failure"

    id: Mapped[int] = identity()
    collection_id: Mapped[int] = belongs_to("collection")
    text_id: Mapped[int | None] = mapped_column(BigInteger)
    document_key: Mapped[str | None]
    code: Mapped[str]
    reason: Mapped[str]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = timestamp()
    retried_by: Mapped[int | None] = mapped_column(BigInteger)
    source: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("(text_id IS NULL) <> (document_key IS NULL)", name="subject"),
        UniqueConstraint("collection_id", "text_id"),
        UniqueConstraint("collection_id", "document_key"),
    )

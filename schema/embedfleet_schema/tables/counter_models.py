"""Tables about how much there is: what transactions changed, and what was added up of it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    Table,
    Text,
)
from sqlalchemy.orm import Mapped, mapped_column

from embedfleet_schema.tables.declarations import SCHEMA, Base, tally

# What one transaction changed, of a job and its batches of one delivery, or of a collection alone.
# No row is ever updated or looked up: it has no key.
counter_delta = Table(
    "counter_delta",
    Base.metadata,
    Column("collection_id", BigInteger, nullable=False),
    Column("job_id", BigInteger),
    Column("delivery", Text),
    Column("open_batches", Integer),
    Column("held_batches", Integer),
    Column("queued", Integer),
    Column("tokens", BigInteger),
    Column("embedded", Integer),
    Column("failed", Integer),
    Column("finished_at", DateTime(timezone=True)),
    Column("documents", Integer),
    Column("live_documents", Integer),
    Column("chunks", Integer),
    Column("vectors", Integer),
    Column("failures", Integer),
)


class CollectionCounter(Base):
    """How much a collection holds, less what is still in `counter_delta`."""

    __tablename__ = "collection_counter"

    collection_id: Mapped[int] = mapped_column(
        BigInteger,
        ForeignKey(f"{SCHEMA}.collection.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    )
    documents: Mapped[int] = tally()
    live_documents: Mapped[int] = tally()
    chunks: Mapped[int] = tally()
    vectors: Mapped[int] = tally()
    failures: Mapped[int] = tally()


class JobCounter(Base):
    """The batches of a job of one delivery, less what is still in `counter_delta`.

    `queued` are texts of open batches without a vector and `tokens` theirs; `embedded` and `failed`
    are those of all batches, and `removed_...` of those that were removed since they finished.
    `tokens_per_second` is how fast they went, as far as that cannot be read from batches any more.
    """

    __tablename__ = "job_counter"

    job_id: Mapped[int] = mapped_column(
        BigInteger,
        ForeignKey(f"{SCHEMA}.job.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    )
    delivery: Mapped[str] = mapped_column(primary_key=True)
    open_batches: Mapped[int] = tally()
    held_batches: Mapped[int] = tally()
    queued: Mapped[int] = tally()
    tokens: Mapped[int] = tally()
    embedded: Mapped[int] = tally()
    failed: Mapped[int] = tally()
    finished_at: Mapped[datetime | None]
    removed_embedded: Mapped[int] = tally()
    removed_failed: Mapped[int] = tally()
    tokens_per_second: Mapped[float | None]

    __table_args__ = (CheckConstraint("delivery IN ('direct', 'provider_batch')", name="delivery"),)

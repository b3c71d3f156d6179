"""The table of requests that are sent when a job ends."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index
from sqlalchemy import text as expression
from sqlalchemy.orm import Mapped, mapped_column

from embedfleet_schema.tables.declarations import SCHEMA, Base, timestamp


class Webhook(Base):
    """The request that is sent to `url` when a job ends, again and again until it is accepted.

    `id` is the same each time. `attempts` counts them and fences what is noted of one. `due_at` is
    when the next may begin: while one is under way, when it counts as lost.
    """

    __tablename__ = "webhook"

    job_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(f"{SCHEMA}.job.id", ondelete="CASCADE"), primary_key=True
    )
    id: Mapped[UUID] = mapped_column(server_default=expression("gen_random_uuid()"))
    url: Mapped[str]
    attempts: Mapped[int] = mapped_column(server_default=expression("0"))
    due_at: Mapped[datetime] = timestamp()
    delivered_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    reason: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("octet_length(url) <= 2048", name="url"),
        CheckConstraint("delivered_at IS NULL OR failed_at IS NULL", name="end"),
        Index(
            "ix_webhook_open",
            "due_at",
            postgresql_where=expression("delivered_at IS NULL AND failed_at IS NULL"),
        ),
    )

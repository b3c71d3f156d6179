"""Who shares the workers: what a person set, and how far each tenant has come."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from embedfleet_schema.tables.declarations import SCHEMA, Base, timestamp


class Tenant(Base):
    """The weight of a tenant, if a person set one; others have 1."""

    __tablename__ = "tenant"

    name: Mapped[str] = mapped_column(primary_key=True)
    weight: Mapped[float]

    __table_args__ = (CheckConstraint("weight BETWEEN 0.001 AND 1000", name="weight"),)


class TenantShare(Base):
    """Where the last batch of a tenant finishes in one lane of a queue, for one space: its next one
    starts there, or where the service is by then.
    """

    __tablename__ = "tenant_share"

    space_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(f"{SCHEMA}.space.id", ondelete="CASCADE"), primary_key=True
    )
    queue: Mapped[str] = mapped_column(primary_key=True)
    priority: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    finish_tag: Mapped[float]
    used_at: Mapped[datetime] = timestamp()

    __table_args__ = (
        Index("ix_tenant_share_space_id_finish_tag", "space_id", "queue", "priority", "finish_tag"),
        Index("ix_tenant_share_queue_finish_tag", "queue", "priority", "finish_tag"),
    )

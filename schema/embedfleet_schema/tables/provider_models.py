"""Tables about providers with an API: limits, what was spent, and provider batches."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from embedfleet_schema.tables.declarations import SCHEMA, Base, identity, tally, timestamp


class RateLimit(Base):
    """A limit that a person set: `amount` per minute, or at once where it is `concurrency`.

    `account` is a hash of an API key, empty for all accounts; `name` a model or a `LimitGroup`.
    """

    __tablename__ = "rate_limit"

    id: Mapped[int] = identity()
    provider: Mapped[str]
    account: Mapped[str] = mapped_column(server_default=text("''"))
    name: Mapped[str]
    dimension: Mapped[str]
    amount: Mapped[float] = mapped_column(Double)
    updated_at: Mapped[datetime] = timestamp()

    __table_args__ = (
        UniqueConstraint("provider", "account", "name", "dimension"),
        CheckConstraint("amount > 0", name="amount"),
    )


class LimitGroup(Base):
    """A model that draws on one limit together with the other models of the group `name`."""

    __tablename__ = "limit_group"

    provider: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]


class Usage(Base):
    """What answers cost, by their own account; a row for each writer, so that none waits.

    It outlives jobs, collections and workers. `usd` is NULL where no price was known.
    """

    __tablename__ = "usage"

    id: Mapped[int] = identity()
    day: Mapped[date]
    space_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(f"{SCHEMA}.space.id"))
    job_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    worker_id: Mapped[UUID | None]
    requests: Mapped[int] = tally()
    texts: Mapped[int] = tally()
    tokens: Mapped[int] = tally()
    usd: Mapped[Decimal | None]

    __table_args__ = (
        UniqueConstraint(
            "day", "space_id", "job_id", "worker_id", postgresql_nulls_not_distinct=True
        ),
    )


class ProviderBatch(Base):
    """Texts that were given to a provider's batch API as one file.

    `token` is what the provider keeps beside its batch, by which it is found again after a crash.
    `token_limit` is how many tokens may wait there at once, as learnt from a refusal (`code`).
    `reserved` is what it may cost, in USD by the id of each job that has a budget; `price` is
    that of who filed it, in USD per million tokens.
    """

    __tablename__ = "provider_batch"

    id: Mapped[int] = identity()
    space_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(f"{SCHEMA}.space.id"))
    token: Mapped[UUID] = mapped_column(server_default=text("gen_random_uuid()"))
    account: Mapped[str | None]
    state: Mapped[str]
    input_file_id: Mapped[str | None]
    remote_batch_id: Mapped[str | None]
    requests: Mapped[int] = mapped_column(server_default=text("0"))
    tokens: Mapped[int] = tally()
    created_at: Mapped[datetime] = timestamp()
    filed_at: Mapped[datetime | None]
    checked_at: Mapped[datetime] = timestamp()
    finished_at: Mapped[datetime | None]
    code: Mapped[str | None]
    reason: Mapped[str | None]
    token_limit: Mapped[int | None] = mapped_column(BigInteger)
    reserved: Mapped[dict[str, Any] | None]
    price: Mapped[Decimal | None]

    __table_args__ = (
        CheckConstraint("state IN ('filing', 'filed', 'done', 'failed')", name="state"),
        Index("ix_provider_batch_space_id_state", "space_id", "state"),
    )

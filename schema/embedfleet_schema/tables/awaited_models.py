"""The table of texts that several jobs want."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from embedfleet_schema.tables.declarations import SCHEMA, Base, belongs_to


class AwaitedBatch(Base):
    """A batch of another job, `owner_id`, that has so many `texts` which this job waits for.

    Where the owner is paused or cancelled, the batch goes to a job that waits for it. The row goes
    with the end of the batch.
    """

    __tablename__ = "awaited_batch"

    batch_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(f"{SCHEMA}.batch.id", ondelete="CASCADE"), primary_key=True
    )
    job_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(f"{SCHEMA}.job.id", ondelete="CASCADE"), primary_key=True
    )
    owner_id: Mapped[int] = belongs_to("job")
    texts: Mapped[int]

    __table_args__ = (
        Index("ix_awaited_batch_job_id", "job_id"),
        Index("ix_awaited_batch_owner_id", "owner_id"),
    )

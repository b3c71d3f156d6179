"""The worker processes."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from embedfleet_schema.tables.declarations import Base, tally, timestamp


class Worker(Base):
    """A worker process: its heartbeat, what it has done, and the `reason` why it claims nothing.

    That is here because a heartbeat is written beside the row that is there, and so on a full disk
    too. A batch that leaves its lease is written to indexes, which may have to grow for it.
    """

    __tablename__ = "worker"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    hostname: Mapped[str]
    pid: Mapped[int]
    queues: Mapped[list[str]] = mapped_column(ARRAY(Text))
    slots: Mapped[int]
    device: Mapped[str]
    version: Mapped[str]
    heartbeat_seconds: Mapped[float] = mapped_column(server_default=text("15"))
    batches: Mapped[int] = tally()
    chunks: Mapped[int] = tally()
    tokens: Mapped[int] = tally()
    started_at: Mapped[datetime] = timestamp()
    last_seen: Mapped[datetime] = timestamp()
    stopped_at: Mapped[datetime | None]
    reason: Mapped[str | None]

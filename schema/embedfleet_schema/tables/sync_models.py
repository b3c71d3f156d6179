"""Tables of other programs that collections follow, and the keys of rows that changed there."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import REGCLASS
from sqlalchemy.orm import Mapped, mapped_column

from embedfleet_schema.tables.declarations import SCHEMA, Base, identity, tally, timestamp


class TableSync(Base):
    """A collection follows a table: which columns make a document's key, text and metadata.

    `relation` is the table itself, whatever it is called by now; `layout` are the types of its
    named columns as they were seen last. `turn` fences writes: it grows whenever a process takes
    over. `waits` says that somebody listens for changes. Until `backfilled_at`, rows that were
    there are being read, in the order of their keys, up to `backfill_after`. `problem` is why it
    stands still.
    """

    __tablename__ = "table_sync"

    id: Mapped[int] = identity()
    collection_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(f"{SCHEMA}.collection.id", ondelete="CASCADE"), unique=True
    )
    relation: Mapped[Any] = mapped_column(REGCLASS, nullable=False)
    key_columns: Mapped[list[str]] = mapped_column(ARRAY(Text))
    text_columns: Mapped[list[str]] = mapped_column(ARRAY(Text))
    metadata_columns: Mapped[list[str]] = mapped_column(ARRAY(Text))
    source: Mapped[str]
    layout: Mapped[str]
    created_at: Mapped[datetime] = timestamp()
    paused_at: Mapped[datetime | None]
    turn: Mapped[int] = tally()
    waits: Mapped[bool] = mapped_column(server_default=text("false"))
    backfill_after: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    backfilled: Mapped[int] = tally()
    backfilled_at: Mapped[datetime | None]
    backfill_job_id: Mapped[int | None] = mapped_column(BigInteger)
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    verify_due: Mapped[bool] = mapped_column(server_default=text("false"))
    verified_at: Mapped[datetime | None]
    differences: Mapped[int | None] = mapped_column(BigInteger)
    problem: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("id BETWEEN 1 AND 2147483647", name="id"),
        CheckConstraint(
            "cardinality(key_columns) > 0 AND cardinality(text_columns) > 0", name="columns"
        ),
    )


class SyncOutbox(Base):
    """Keys of rows that one statement changed, up to a hundred; NULL: all rows went at once.

    Written by the triggers of a synced table, in the transaction of the change.
    """

    __tablename__ = "sync_outbox"

    sync_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    keys: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    changed_at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))

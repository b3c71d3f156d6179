"""Tables about sources that are mirrored, and about the objects of stores."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy import text as expression
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE
from sqlalchemy.orm import Mapped, mapped_column

from embedfleet_schema.tables.declarations import SCHEMA, Base, tally


class Mirror(Base):
    """A job that deletes what its source no longer has.

    What was stored or seen after `since` stays. `deleted` counts documents, and `undeleted` says
    why others were kept.
    """

    __tablename__ = "mirror"

    job_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(f"{SCHEMA}.job.id", ondelete="CASCADE"), primary_key=True
    )
    since: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    deleted: Mapped[int] = tally()
    undeleted: Mapped[str | None]

    __table_args__ = (
        Index("ix_mirror_open", "job_id", postgresql_where=expression("ended_at IS NULL")),
    )


class Sighting(Base):
    """An unchanged document that a job came by while a mirror ran.

    The first one of each mirror has no document: it tells that none was lost.
    """

    __tablename__ = "sighting"

    collection_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(f"{SCHEMA}.collection.id", ondelete="CASCADE"), primary_key=True
    )
    document_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(server_default=expression("statement_timestamp()"))

    __table_args__ = ({"prefixes": ["UNLOGGED"]},)


class StoredObject(Base):
    """An object of a store, the numbers of the documents that came of it, and of which version.

    `version` is a digest; NULL while not all of the object is stored. `job_id` read it last.
    """

    __tablename__ = "object"

    collection_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(f"{SCHEMA}.collection.id", ondelete="CASCADE"), primary_key=True
    )
    source: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[bytes | None]
    documents: Mapped[Any] = mapped_column(INT8MULTIRANGE, nullable=False)
    job_id: Mapped[int] = mapped_column(BigInteger)

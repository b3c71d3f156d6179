"""A collection that gets another model: the two that are kept equal, and what one of them lacks."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from embedfleet_schema.tables.declarations import SCHEMA, Base, belongs_to, identity, timestamp


class ModelChange(Base):
    """`other_id` is kept equal to `collection_id`, which has the name and serves. When the two
    change places, so do the columns; `switched_at` is set while the newer one serves.

    `listed_to` is the key up to which the documents of the first one are listed as changed, and
    `listed` says that all are.
    """

    __tablename__ = "model_change"

    collection_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(f"{SCHEMA}.collection.id"), primary_key=True
    )
    other_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(f"{SCHEMA}.collection.id"), unique=True
    )
    name: Mapped[str]
    keep_seconds: Mapped[float]
    began_at: Mapped[datetime] = timestamp()
    listed_to: Mapped[str] = mapped_column(server_default=text("''"))
    listed: Mapped[bool] = mapped_column(server_default=text("false"))
    switched_at: Mapped[datetime | None]

    __table_args__ = (CheckConstraint("keep_seconds >= 0", name="keep_seconds"),)


class DocumentChange(Base):
    """A document, by its key, that was stored, replaced or removed, and that the other collection
    does not have so yet. Rows are only added: no change waits for another.
    """

    __tablename__ = "document_change"

    id: Mapped[int] = identity()
    collection_id: Mapped[int] = belongs_to("collection")
    key: Mapped[str]

    __table_args__ = (Index("ix_document_change_collection_id_id", "collection_id", "id"),)


class Successor(Base):
    """What serves in the place of a collection that went when its model change was finished."""

    __tablename__ = "successor"

    collection_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    successor_id: Mapped[int] = belongs_to("collection")

    __table_args__ = (Index("ix_successor_successor_id", "successor_id"),)

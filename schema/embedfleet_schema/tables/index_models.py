"""What a person set about the index on the vectors of a collection, and about its columns."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from embedfleet_schema.tables.declarations import SCHEMA, Base, belongs_to, identity


class CollectionIndex(Base):
    """How far its index is searched, and whether the index follows its loads; what the index is
    stands in the catalog. Without a row, and where a setting is NULL, searches decide.
    """

    __tablename__ = "collection_index"

    collection_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(f"{SCHEMA}.collection.id", ondelete="CASCADE"), primary_key=True
    )
    ef_search: Mapped[int | None]
    probes: Mapped[int | None]
    policy: Mapped[str] = mapped_column(server_default=text("'manual'"))

    __table_args__ = (
        CheckConstraint("ef_search BETWEEN 1 AND 1000", name="ef_search"),
        CheckConstraint("probes BETWEEN 1 AND 32768", name="probes"),
        CheckConstraint("policy IN ('manual', 'auto')", name="policy"),
    )


class CollectionColumn(Base):
    """A field of the metadata that the view of a collection shows as a column, with a type. The
    columns are in the order of `id`.
    """

    __tablename__ = "collection_column"

    id: Mapped[int] = identity()
    collection_id: Mapped[int] = belongs_to("collection")
    name: Mapped[str]
    field: Mapped[str]
    type: Mapped[str]

    __table_args__ = (
        UniqueConstraint("collection_id", "name"),
        CheckConstraint(
            "type IN ('int', 'float', 'text', 'bool', 'date', 'timestamp')", name="type"
        ),
    )

"""The table by which workers know that they hold the same model."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from embedfleet_schema.tables.declarations import SCHEMA, Base, timestamp


class SpaceCheck(Base):
    """What the model of a space is, as its first worker found it; written once.

    `files` maps paths to digests. `vectors` is float32 in little endian: a row for each of `texts`
    as a document, then one for the first of them as a query.
    """

    __tablename__ = "space_check"

    space_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(f"{SCHEMA}.space.id", ondelete="CASCADE"), primary_key=True
    )
    files: Mapped[dict[str, Any]]
    texts: Mapped[list[str]] = mapped_column(ARRAY(Text))
    vectors: Mapped[bytes]
    recorded_at: Mapped[datetime] = timestamp()

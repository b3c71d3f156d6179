"""What all models share: the schema, the names of constraints, and the columns of one kind."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    Identity,
    LargeBinary,
    MetaData,
    Numeric,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA = "embedfleet"
# The form that W3C Trace Context gives it; of no other can a worker make a parent.
TRACEPARENT = "traceparent ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'"

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    metadata = MetaData(schema=SCHEMA, naming_convention=NAMES)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads the plain class attribute
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        bytes: LargeBinary,
        str: Text,
        Decimal: Numeric,
    }


def identity() -> Mapped[int]:
    return mapped_column(BigInteger, Identity(always=True), primary_key=True)


def timestamp() -> Mapped[datetime]:
    return mapped_column(server_default=text("now()"))


def belongs_to(table: str) -> Mapped[int]:
    return mapped_column(BigInteger, ForeignKey(f"{SCHEMA}.{table}.id", ondelete="CASCADE"))


def tally() -> Mapped[int]:
    return mapped_column(BigInteger, server_default=text("0"))

"""The view of a collection as people who use SQLAlchemy want it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from embedfleet_schema.types import CollectionInfo

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table
    from sqlalchemy.types import TypeEngine

    from embedfleet_schema.store.metadata_columns import MetadataColumn

SCHEMA = "embedfleet"


def view_table(
    collection: CollectionInfo,
    metadata: MetaData | None = None,
    columns: Sequence[MetadataColumn] = (),
) -> Table:
    """The view `embedfleet.<name>` with the types that pgvector has for SQLAlchemy 2.

    It is there to be read: do not create or drop it. `id` identifies a row as long as its document
    does not change, so a declarative class may be mapped to it. The column `metadata` is called
    `metadata_`: a declarative class has another `metadata`. `columns` are those that were added.
    """
    from pgvector.sqlalchemy import HALFVEC, VECTOR
    from sqlalchemy import (
        BigInteger,
        Boolean,
        Column,
        Date,
        DateTime,
        Double,
        Integer,
        MetaData,
        Table,
        Text,
    )
    from sqlalchemy.dialects.postgresql import JSONB

    space = collection.space
    kind = VECTOR if space.storage == "vector" else HALFVEC
    types: dict[str, TypeEngine[Any]] = {
        "int": BigInteger(),
        "float": Double(),
        "text": Text(),
        "bool": Boolean(),
        "date": Date(),
        "timestamp": DateTime(timezone=True),
    }
    return Table(
        collection.name,
        MetaData() if metadata is None else metadata,
        Column("id", BigInteger, primary_key=True),
        Column("document", Text, nullable=False),
        Column("position", Integer, nullable=False),
        Column("content", Text, nullable=False),
        Column("metadata", JSONB, key="metadata_", nullable=False),
        Column("embedding", kind(space.dimensions), nullable=False),
        Column("context", Text),
        *(Column(each.name, types[each.type]) for each in columns),
        schema=SCHEMA,
    )

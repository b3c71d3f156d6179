"""The one way in which vectors are written: of a worker's batch, or of an import with texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load, rendered
from embedfleet_schema.store import counters
from embedfleet_schema.types import CollectionInfo, as_bigints
from embedfleet_schema.vectors import vector_array

_SQL = load("vector_rows")
_FORGET_CURED = rendered(counters.counting_failures(_SQL["forget_cured"]))

Insert = Literal["insert_vectors", "insert_new_vectors"]


def insert(
    db: Database,
    conn: Connection[Any],
    collection: CollectionInfo,
    text_ids: Sequence[int],
    matrix: NDArray[np.float32],
    statement: Insert = "insert_vectors",
) -> int:
    """Returns how many of the texts got their vector here: others had it, or were deleted. Failures
    of texts that have one now are forgotten.

    Args:
        conn: in a transaction that shares the collection.
        matrix: float32 of shape (len(text_ids), dimensions), checked.
    """
    if not text_ids:
        return 0
    texts = {"collection_id": collection.id, "texts": as_bigints(text_ids)}
    rows = {"vectors": vector_array(matrix, collection.space.storage, db.oids)}
    if statement == "insert_new_vectors":
        there = conn.execute(composed(_SQL["count_there"], collection), texts).fetchone()
        if there != (len(text_ids),):
            statement = "insert_vectors"
    inserted = conn.execute(composed(_SQL[statement], collection), texts | rows).rowcount
    conn.execute(_FORGET_CURED, texts)
    return inserted

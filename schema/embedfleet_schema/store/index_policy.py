"""When an index follows the loads of its collection: dropped before a large one, built after it.

Inserting into an index that is there took five times as long as building it over the same rows
(docs/performance.md). So from a fifth of new rows on, to build all of it anew is less work. The
index goes later, at a half: until it is back, each search compares all vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import Blocked
from embedfleet_schema.store import collection_counts, index_builds, vector_index
from embedfleet_schema.types import CollectionInfo

Decision = Literal["built", "dropped", "kept", "busy"]

# Fewer vectors are compared as fast as an index finds them.
FEW_VECTORS = 10_000
# Of what there will be, the share of new ones from which on it is a load.
LOAD_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Standing:
    """What is decided by: vectors that are stored, texts that workers are about to embed."""

    indexed: bool
    vectors: int
    waiting: int


def decide(standing: Standing) -> Literal["build", "drop", "keep"]:
    """What to do with the index."""
    total = standing.vectors + standing.waiting
    loading = standing.waiting >= LOAD_SHARE * total
    if total < FEW_VECTORS or standing.indexed is not loading:
        return "keep"
    return "drop" if loading else "build"


def follow(db: Database, collection: CollectionInfo, *, memory_mb: int) -> Decision:
    """Decide and act, alone: of several processes one does, and the others say `busy`."""
    try:
        with index_builds.alone(db, collection, memory_mb=memory_mb, wait_s=0.0) as conn:
            indexed = vector_index.in_use(db, collection) is not None
            vectors = collection_counts.counts(db, collection).vectors
            standing = Standing(indexed, vectors, vector_index.waiting(db, collection))
            match decide(standing):
                case "drop":
                    vector_index.drop_alone(conn, collection)
                    return "dropped"
                case "build":
                    vector_index.build_alone(db, conn, collection, None, vectors=vectors)
                    return "built"
            return "kept"
    except Blocked:
        return "busy"

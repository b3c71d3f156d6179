"""What memory the build of an HNSW index needs: a graph that does not fit is built on disk, at some
hundred vectors a second.
"""

from __future__ import annotations

from dataclasses import dataclass

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.types import Space

_SQL = load("collections")

_MIB = 2**20
# Of pgvector 0.8.5 with m = 16, for each vector: its element, 32 neighbours of 16 bytes in the
# lowest layer, and those above. The notice "graph no longer fits into maintenance_work_mem after N
# tuples" came after 715 to 732 bytes more than the floats, at 32 to 1,536 dimensions.
_ELEMENT = 735
# A parallel build keeps so much of it for other things: 4.1 MB, also measured so.
_PARALLEL = 4.3 * _MIB
# What a build asks for by itself: more may not be there.
LEAST_MB, MOST_MB = 64, 2_048


@dataclass(frozen=True, slots=True)
class BuildMemory:
    """The `maintenance_work_mem` that a graph needs, and what its build takes, in MB of 2^20 B."""

    needed_mb: int
    taken_mb: int

    @property
    def fits(self) -> bool:
        return self.needed_mb <= self.taken_mb


def build_memory(space: Space, vectors: int, *, memory_mb: int | None = None) -> BuildMemory:
    """For so many vectors; `memory_mb` is what the build shall take, if somebody says so."""
    each = space.float_bytes * space.dimensions + _ELEMENT
    needed = int((vectors * each * 1.01 + _PARALLEL) / _MIB) + 1
    return BuildMemory(needed, memory_mb or min(max(needed, LEAST_MB), MOST_MB))


def without_index(db: Database) -> dict[str, int]:
    """Collections without an index that is usable, with about how many vectors they have."""
    with db.transaction() as conn:
        rows = conn.execute(_SQL["without_index"])
        return {name: int(vectors) for name, vectors in rows}

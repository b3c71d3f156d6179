"""What memory the build of an index needs: a graph that does not fit is built on disk, at some
hundred vectors a second, and k-means that do not fit are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.store.vector_index import IndexKind, lists_for
from embedfleet_schema.types import IndexType, Space

_SQL = load("vector_index")

_MIB = 2**20
# Of pgvector 0.8.5 with m = 16, for each vector: its element, 32 neighbours of 16 bytes in the
# lowest layer, and those above. The notice "graph no longer fits into maintenance_work_mem after N
# tuples" came after 715 to 732 bytes more than the floats, at 32 to 1,536 dimensions.
_ELEMENT = 735
# A parallel build keeps so much of it for other things: 4.1 MB, also measured so.
_PARALLEL = 4.3 * _MIB
# What a build asks for by itself, where the server is not set to more: more may not be there.
LEAST_MB, MOST_MB = 64, 2_048
# k-means of IVFFlat looks at so many vectors for each list, and at no fewer than that.
_SAMPLES, _LEAST_SAMPLES = 50, 10_000
# A page of PostgreSQL without its header and what pgvector keeps at its end; tuples are aligned.
_PAGE, _ROOM, _ALIGN = 8_192, 8_152, 8
# An entry of HNSW: its head and its line pointer, and its neighbours in the lowest layer (m = 16).
_HEAD, _NEIGHBOURS = 76, 204


@dataclass(frozen=True, slots=True)
class BuildMemory:
    """The `maintenance_work_mem` that a build needs, and what it takes, in MB of 2^20 B."""

    needed_mb: int
    taken_mb: int

    @property
    def fits(self) -> bool:
        return self.needed_mb <= self.taken_mb


def build_memory(
    space: Space,
    vectors: int,
    kind: IndexKind,
    *,
    memory_mb: int | None = None,
    most_mb: int | None = None,
) -> BuildMemory:
    """For so many vectors; `memory_mb` is what the build shall take, if somebody says so, and
    `most_mb` the most that it takes by itself.
    """
    if kind.method == "hnsw":
        needed_bytes = vectors * (_value_bytes(space, kind.type) + _ELEMENT) * 1.01 + _PARALLEL
    else:
        needed_bytes = _k_means_bytes(space, kind, lists_for(vectors)) + _PARALLEL
    needed = int(needed_bytes / _MIB) + 1
    return BuildMemory(needed, memory_mb or min(max(needed, LEAST_MB), most_mb or MOST_MB))


def most_mb(db: Database) -> int:
    """The most that a build takes by itself: what the server is set to, or half as much as it has
    for its pages, which are a quarter of a machine by PostgreSQL's advice; never less than 2 GB.
    """
    with db.transaction() as conn:
        row = conn.execute(_SQL["server"]).fetchone()
    memory, buffers = row or (0, 0)
    return max(MOST_MB, int(memory), int(buffers) // 2)


def fresh_bytes(space: Space, vectors: int, kind: IndexKind) -> int:
    """About how large an index is that was just built over so many vectors."""
    value = _value_bytes(space, kind.type)
    aligned = -(-value // _ALIGN) * _ALIGN
    entry = aligned + (_HEAD + _NEIGHBOURS if kind.method == "hnsw" else 20)
    each_page = max(1, _ROOM // entry)
    return _PAGE * (-(-vectors // each_page) + lists_for(vectors) * (kind.method == "ivfflat"))


def without_index(db: Database) -> dict[str, int]:
    """Collections without an index that is usable, with about how many vectors they have."""
    with db.transaction() as conn:
        rows = conn.execute(_SQL["without_index"])
        return {name: int(vectors) for name, vectors in rows}


def _value_bytes(space: Space, type_: IndexType) -> int:
    """A vector in the index."""
    match type_:
        case "bit":
            return 8 + -(-space.dimensions // 8)
        case "halfvec":
            return 8 + 2 * space.dimensions
    return 8 + 4 * space.dimensions


def _k_means_bytes(space: Space, kind: IndexKind, lists: int) -> int:
    """By pgvector's ivfkmeans.c (0.8.5): samples, two sets of centers, and two tables of bounds."""
    samples = max(_LEAST_SAMPLES, _SAMPLES * lists)
    values = _value_bytes(space, kind.type) * (samples + 2 * lists)
    return values + 4 * samples * lists + 4 * lists * lists + 16 * samples

"""What a plan asks of the tables: which texts have a vector, how fast a model was, what fits."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import collections, retention
from embedfleet_schema.store.registry import Registry
from embedfleet_schema.store.reuse import SIBLINGS_ASKED
from embedfleet_schema.types import CollectionInfo, Space, as_uuids

_SQL = load("plans")

_PAGE, _PAGE_HEADER = 8_192, 24
_POINTER, _TUPLE_HEADER = 4, 24
_KEY = 8
_VECTOR_HEADER = 8
# What fits no page beside its key is stored out of line, in pieces of a quarter of a page.
_IN_LINE, _PIECE, _POINTER_OUT = 7_900, 1_996, 18
# An entry of the primary key, in pages that numbers in their order leave nearly full.
_INDEX_ENTRY = 23


def stored(db: Database, collection: CollectionInfo, hashes: Collection[bytes]) -> set[bytes]:
    """Those of the texts, by hash, that have a vector in this collection."""
    if not hashes:
        return set()
    statement = composed(_SQL["stored"], collection)
    with db.transaction() as conn:
        rows = conn.execute(statement, {"hashes": as_uuids(hashes)}).fetchall()
    return {found for (found,) in rows}


def waiting(db: Database, collection: CollectionInfo, keys: Sequence[str]) -> dict[bytes, int]:
    """Tokens by hash of the texts that these documents still wait for and that no batch has."""
    with db.transaction() as conn:
        texts = Registry(conn, collection, "direct").waiting(keys)
    return {text.hash: text.tokens for text in texts if text.batch_id is None}


def siblings(db: Database, space: Space, collection: CollectionInfo | None) -> list[CollectionInfo]:
    """The other collections of the space that workers ask for vectors: see `store.reuse`."""
    if collection is not None and collection.reuse == "none":
        return []
    precision = None if collection is None else collection.precision
    newest = collections.newest_of(db, space, SIBLINGS_ASKED + 1, precision)
    return [info for info in newest if info != collection][:SIBLINGS_ASKED]


def speed(db: Database, space: Space) -> float | None:
    """Tokens per second of the fleet when it last used this model; None if that does not tell."""
    with db.transaction() as conn:
        values = {"provider": space.provider, "model": space.model}
        row = conn.execute(_SQL["speed"].format(speed_of=retention.SPEED_OF), values).fetchone()
    return None if row is None or row[0] is None else float(row[0])


def vector_bytes(space: Space, rows: int) -> int:
    """About what a vector table of so many rows takes on disk with its key, without an index."""
    floats = space.float_bytes * space.dimensions
    width = _TUPLE_HEADER + _KEY
    outside = 0
    if floats <= _IN_LINE:
        width += _VECTOR_HEADER + floats
    else:
        width += _POINTER_OUT
        outside = -(-floats // _PIECE) * (_PAGE // 4)
    rows_per_page = max(1, (_PAGE - _PAGE_HEADER) // (width + _POINTER))
    return -(-rows // rows_per_page) * _PAGE + rows * (outside + _INDEX_ENTRY)

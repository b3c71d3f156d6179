"""Vectors as parameters: one as text; a matrix as one binary `vector[]` or `halfvec[]`, built
without a loop.

Layout: PostgreSQL's array header, then per element its length and pgvector's own binary form
(dimensions, a reserved word, big-endian floats); see their `array_send` and `vector_send`.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo

from embedfleet_schema.statements import load
from embedfleet_schema.types import Storage

_SQL = load("vectors")
_FLOAT = {"vector": ">f4", "halfvec": ">f2"}


class VectorArray:
    """Binary form of a float32 matrix (n, dimensions); see `vector_array`."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class HalfvecArray(VectorArray):
    """The same as half-precision floats."""

    __slots__ = ()


def as_text(vector: NDArray[np.float32]) -> str:
    """One vector as pgvector reads it, which no type has to be known for."""
    return "[" + ",".join(map(str, vector.tolist())) + "]"


def vector_array(
    matrix: NDArray[np.float32], storage: Storage, oids: dict[Storage, int]
) -> VectorArray:
    """The parameter that stands for all rows of `matrix`.

    Args:
        matrix: float32, shape (n, dimensions).
        storage: the column's type.
        oids: the type numbers of this database, from `register`.
    """
    count, dimensions = matrix.shape
    item = np.dtype(
        [("size", ">i4"), ("dim", ">i2"), ("unused", ">i2"), ("x", _FLOAT[storage], dimensions)]
    )
    items = np.zeros(count, dtype=item)
    items["size"] = item.itemsize - 4
    items["dim"] = dimensions
    items["x"] = matrix
    header = struct.pack(">iiIii", 1 if count else 0, 0, oids[storage], count, 1)
    kind = VectorArray if storage == "vector" else HalfvecArray
    return kind((header if count else header[:12]) + items.tobytes())


def received(sent: bytes, storage: Storage) -> NDArray[np.floating[Any]]:
    """A vector that pgvector's send function wrote: float32 or float16 of shape (dimensions,)."""
    numbers = np.frombuffer(sent, dtype=_FLOAT[storage], offset=4)
    return numbers.astype(numbers.dtype.newbyteorder("="))


def register(conn: Connection[Any]) -> tuple[str, dict[Storage, int]]:
    """Teach a connection pgvector's types; returns their schema and their numbers here.

    They are looked for in the extension, not by name: anybody may have made a type `vector`.

    Raises:
        psycopg.ProgrammingError: the extension is not there.
    """
    from pgvector.psycopg.halfvec import register_halfvec_info
    from pgvector.psycopg.vector import register_vector_info

    rows = conn.execute(_SQL["types"]).fetchall()
    found = {name: TypeInfo(name, oid, array_oid) for name, oid, array_oid, _ in rows}
    register_vector_info(conn, found.get("vector"))
    register_halfvec_info(conn, found["halfvec"])
    kinds: dict[Storage, type[VectorArray]] = {"vector": VectorArray, "halfvec": HalfvecArray}
    for storage, kind in kinds.items():
        conn.adapters.register_dumper(kind, _dumper(found[storage].array_oid))
    return rows[0][3], {storage: found[storage].oid for storage in kinds}


def _dumper(array_oid: int) -> type[Dumper]:
    class BinaryArrayDumper(Dumper):
        format = Format.BINARY
        oid = array_oid

        def dump(self, obj: VectorArray) -> bytes:
            return obj.data

    return BinaryArrayDumper

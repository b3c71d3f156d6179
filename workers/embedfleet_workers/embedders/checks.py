"""The gate between an embedder and the database: only usable vectors pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedfleet_schema.types import Space
from embedfleet_schema.vector_checks import first_fault
from embedfleet_workers.embedders.protocol import Rows, Vectors
from embedfleet_workers.embedding_errors import BadAnswer


def checked(vectors: ArrayLike, count: int, space: Space) -> Vectors:
    """The vectors as C-contiguous float32 of shape (count, space.dimensions).

    Costs one pass over the matrix, two where the space stores halfvec.

    Raises:
        BadAnswer: wrong count, width or type; a value that is not finite; a zero vector, or one
            that becomes zero or infinite as halfvec; a vector of a normalized space that is not
            of unit length. The message names the first row that is wrong.
    """
    rows = _as_matrix(vectors)
    if rows.shape[0] != count:
        raise BadAnswer(reason=f"{rows.shape[0]} vectors for {count} texts")
    if count and rows.shape[1] != space.dimensions:
        raise BadAnswer(
            reason=f"vectors of {rows.shape[1]} dimensions, {space.name} has {space.dimensions}"
        )
    matrix = _as_float32(rows.reshape(count, space.dimensions))
    if fault := first_fault(matrix, space):
        raise BadAnswer(reason=fault)
    return Vectors(matrix)


def no_vectors(space: Space) -> Vectors:
    """Those of no texts."""
    return Vectors(np.empty((0, space.dimensions), dtype=np.float32))


def _as_matrix(vectors: ArrayLike) -> NDArray[np.generic]:
    try:
        rows = np.asarray(vectors)
    except ValueError as error:
        raise BadAnswer(reason=f"not a matrix: {error}") from error
    if rows.size == 0 and rows.ndim == 1:
        return rows.reshape(0, 0)
    if rows.ndim != 2:  # noqa: PLR2004
        raise BadAnswer(reason=f"not a matrix but an array of shape {rows.shape}")
    return rows


def _as_float32(rows: NDArray[np.generic]) -> Rows:
    if not (np.issubdtype(rows.dtype, np.floating) or rows.size == 0):
        raise BadAnswer(reason=f"values of type {rows.dtype}, not floating-point numbers")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite: found below
        return np.ascontiguousarray(rows, dtype=np.float32)

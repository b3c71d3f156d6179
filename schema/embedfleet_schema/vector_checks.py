"""What is wrong with vectors before they reach the database: one rule for embedders and imports."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embedfleet_schema.types import Space

# Wide enough for vectors that were normalized in float16 or bfloat16.
UNIT_TOLERANCE = 1e-3
# Below it, and above what float32 holds, squares leave the range of float32.
_LEAST_LENGTH = 1e-15

Matrix = NDArray[np.float32]
Wrong = NDArray[np.bool_]


def first_fault(matrix: Matrix, space: Space) -> str | None:
    """The first row that is not usable and what is wrong with it, in words; None where all are."""
    for wrong, what in faults(matrix, space):
        if wrong.any():
            rows = np.flatnonzero(wrong)
            more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
            return f"row {rows[0]}{more} {what}"
    return None


def faults(matrix: Matrix, space: Space) -> Iterator[tuple[Wrong, str]]:
    """Which rows are not usable in a space, and what is wrong with them.

    Costs one pass over the matrix, two where the space stores halfvec.

    Args:
        matrix: float32 of shape (n, space.dimensions).
        space: it may be normalized, and store halfvec.
    """
    lengths = _lengths(matrix)
    yield ~np.isfinite(lengths), "holds a value that is not finite"
    yield lengths == 0, "is a zero vector"
    if space.normalized:
        wrong = np.abs(lengths - 1) > UNIT_TOLERANCE
        yield wrong, "is not of unit length, but the space is normalized"
    if space.storage == "halfvec":
        with np.errstate(over="ignore"):
            largest = np.abs(matrix.astype(np.float16)).max(axis=1, initial=0)
        yield np.isinf(largest), "has a value too large for halfvec"
        yield largest == 0, "becomes a zero vector as halfvec"


def _lengths(matrix: Matrix) -> NDArray[np.float64]:
    """Euclidean lengths; float64 for the rare rows whose squares leave the range of float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares: NDArray[np.float64] = np.einsum("ij,ij->i", matrix, matrix).astype(np.float64)
        lengths = np.sqrt(squares)
        odd = ~np.isfinite(lengths) | (lengths < _LEAST_LENGTH)
        if odd.any():
            lengths[odd] = np.linalg.norm(matrix[odd].astype(np.float64), axis=1)
    return lengths

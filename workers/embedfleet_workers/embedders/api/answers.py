"""From the items of an answer to checked vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedfleet_schema.types import Space
from embedfleet_schema.vector_checks import first_fault
from embedfleet_workers.embedders.protocol import Rows, Vectors
from embedfleet_workers.embedding_errors import BadAnswer

_FLOAT = np.dtype("<f4")


def vectors_of(items: Sequence[tuple[object, object]], count: int, space: Space) -> Vectors:
    """The vectors in the order of the texts, of unit length where the space is normalized.

    Args:
        items: pairs of an index and a vector, in any order. A vector is base64 of little-endian
            float32, or a list of numbers.
        count: how many texts were sent.
        space: what the vectors have to be.

    Raises:
        BadAnswer: not one usable vector for each text.
    """
    if len(items) != count:
        raise BadAnswer(reason=f"{len(items)} vectors for {count} texts")
    matrix = np.empty((count, space.dimensions), dtype=np.float32)
    seen = bytearray(count)
    for index, vector in items:
        if not isinstance(index, int) or not 0 <= index < count or seen[index]:
            raise BadAnswer(reason=f"the index {index!r:.20} is missing, doubled or out of range")
        seen[index] = 1
        matrix[index] = _row(vector, space)
    if space.normalized:
        matrix = _normalized(matrix)
    if fault := first_fault(matrix, space):
        raise BadAnswer(reason=fault)
    return Vectors(matrix)


def width_of(items: Sequence[tuple[object, object]]) -> int | None:
    """The dimensions of an answer's vectors; None where they differ or cannot be read."""
    try:
        shapes = {_read(vector).shape for _, vector in items}
    except (TypeError, ValueError, OverflowError):
        return None
    widths = {shape[0] for shape in shapes if len(shape) == 1}
    return (widths.pop() or None) if len(shapes) == len(widths) == 1 else None


def _row(vector: object, space: Space) -> Rows:
    try:
        row = _read(vector)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadAnswer(reason=f"a vector cannot be read ({type(error).__name__})") from error
    if row.shape != (space.dimensions,):
        raise BadAnswer(
            reason=f"a vector of shape {row.shape}, {space.name} has {space.dimensions} dimensions"
        )
    return row


def _read(vector: object) -> Rows:
    return _decoded(vector) if isinstance(vector, str) else _listed(vector)


def _decoded(text: str) -> Rows:
    # Ten times as quick as the standard library's, which would cost as much as all the rest.
    from pybase64 import b64decode

    return np.frombuffer(b64decode(text, validate=True), dtype=_FLOAT)


def _listed(vector: object) -> Rows:
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite: found later
        return np.asarray(vector, dtype=np.float32)


def _normalized(matrix: Rows) -> Rows:
    """Rows divided by their lengths; those without a usable length stay, to be refused by name."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
    lengths[~np.isfinite(lengths) | (lengths == 0)] = 1
    matrix /= lengths[:, None]
    return matrix

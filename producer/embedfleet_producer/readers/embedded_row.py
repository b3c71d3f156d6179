"""A row of a file of vectors, as its reader gives it out."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedfleet_producer.readers.json_structure import MAX_VALUES, has_too_many_values
from embedfleet_schema.types import Document

# The most that pgvector stores.
MAX_DIMENSIONS = 16_000
# As vectors lie in a row on its way: float32, the least byte first.
_FLOATS = np.dtype("<f4")


class BadVector(ValueError):
    """What a cell holds is no vector; the message is for people."""


@dataclass(frozen=True, slots=True)
class EmbeddedRow(Document):
    """A chunk with its vector; `key` is that of its document.

    `vector` is base64 of its numbers as float32, which goes through JSON, and empty where the
    vectors lie in a file of their own. `context` was embedded with the text. `chunks_of` is how
    many rows its document has, and `model` and `space` say what made it, as far as the file tells.
    With a `code` and a `fault` the row cannot be taken.
    """

    vector: str = ""
    context: str | None = None
    start: int | None = None
    end: int | None = None
    chunks_of: int | None = None
    model: str | None = None
    space: str | None = None
    code: str | None = None
    fault: str = ""

    @property
    def numbers(self) -> NDArray[np.float32]:
        """The vector, float32 of shape (dimensions,)."""
        return np.frombuffer(base64.b64decode(self.vector), dtype=_FLOATS)


def packed(value: object) -> str:
    """The vector in a cell, as a row has it: numbers, their bytes as float32, or text such as
    `[0.1, 2]`. What float32 cannot hold is infinite in it.

    Raises:
        BadVector: it is none.
    """
    if isinstance(value, str):
        value = _listed(value)
    if isinstance(value, bytes):
        _check_length(len(value) // _FLOATS.itemsize)
        return base64.b64encode(value).decode()
    if value is None:
        raise BadVector("it has no vector")
    if not isinstance(value, list):
        raise BadVector(f"the vector is {type(value).__name__}, not a list of numbers")
    if not value:
        raise BadVector("the vector is empty")
    _check_length(len(value))
    if not all(type(each) is float or type(each) is int for each in value):
        raise BadVector("the vector holds something that is not a number")
    try:
        wide = np.asarray(value, dtype=np.float64)
    except OverflowError:
        raise BadVector("the vector holds a number that is out of range") from None
    with np.errstate(over="ignore"):
        return base64.b64encode(wide.astype(_FLOATS).tobytes()).decode()


def _check_length(dimensions: int) -> None:
    if dimensions > MAX_DIMENSIONS:
        raise BadVector(f"the vector has more than {MAX_DIMENSIONS:,} dimensions")


def _listed(text: str) -> Any:  # noqa: ANN401 - what JSON can say
    if not text.strip():
        return None
    if has_too_many_values(text):
        raise BadVector(f"the vector has more than {MAX_VALUES:,} values")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadVector("the vector is not written as [0.1, 0.2]") from None

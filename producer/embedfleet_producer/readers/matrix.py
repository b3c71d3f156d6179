"""Vectors in NumPy's own file, read row by row; their texts lie in JSON Lines beside it."""

from __future__ import annotations

import base64
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.lib import format as npy

from embedfleet_producer.readers.embedded_row import MAX_DIMENSIONS
from embedfleet_producer.readers.rejections import os_reason, short_reason
from embedfleet_schema.exchange_errors import ImportRefused

# What a number may be stored as; pickled objects are never read.
_KINDS = "f"
_BLOCK_BYTES = 1 << 20


class MatrixFile:
    """A matrix of floating-point numbers; `matrix[n]` is row n as `EmbeddedRow` has vectors.

    Raises:
        ImportRefused: it is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise ImportRefused(path=path, reason=os_reason(error)) from error
        try:
            self.shape, self._dtype = self._header()
            self._begin = self._file.tell()
            self._check_size()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, number: int) -> str:
        size = self.shape[1] * self._dtype.itemsize
        self._file.seek(self._begin + number * size)
        numbers = np.frombuffer(self._file.read(size), dtype=self._dtype)
        with np.errstate(over="ignore"):
            return base64.b64encode(numbers.astype("<f4").tobytes()).decode()

    def _header(self) -> tuple[tuple[int, int], np.dtype[np.floating]]:
        try:
            major, _ = npy.read_magic(self._file)
            read = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
            shape, is_fortran, dtype = read(self._file)
        except (ValueError, EOFError, SyntaxError, RecursionError, MemoryError) as error:
            reason = f"it is no .npy file: {short_reason(error)}"
            raise ImportRefused(path=self._path, reason=reason) from error
        is_matrix = len(shape) == 2 and not is_fortran  # noqa: PLR2004
        is_matrix = is_matrix and shape[1] <= MAX_DIMENSIONS
        if not is_matrix or dtype.kind not in _KINDS or dtype.hasobject:
            reason = f"it holds {dtype} of shape {shape}, not rows of floating-point numbers"
            raise ImportRefused(path=self._path, reason=reason)
        return (int(shape[0]), int(shape[1])), dtype

    def _check_size(self) -> None:
        wanted = self.shape[0] * self.shape[1] * self._dtype.itemsize
        found = self._path.stat().st_size - self._begin
        if found != wanted:
            reason = f"it should have {wanted:,} bytes of numbers and has {found:,}"
            raise ImportRefused(path=self._path, reason=reason)


def count_lines(path: Path) -> int:
    """The lines of a file of rows.

    Raises:
        ImportRefused: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            last, count = b"", 0
            while block := file.read(_BLOCK_BYTES):
                count += block.count(b"\n")
                last = block
            return count + (last[-1:] not in (b"", b"\n"))
    except OSError as error:
        reason = f"its rows are to lie in {path.name} beside it: {os_reason(error)}"
        raise ImportRefused(path=path, reason=reason) from error

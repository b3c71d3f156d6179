"""Files that end in .gz: unfolded while they are read, up to a limit."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import TYPE_CHECKING

from embedfleet_producer.readers.rejections import FileRejected

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER_BYTES = 65_536


def unpacked(stream: BufferedReader, limit: int) -> BufferedReader:
    """The stream before its compression; reading on past `limit` raises FileRejected."""
    raw: BufferedReader = BufferedReader(_Unpacked(stream, limit), _BUFFER_BYTES)
    return raw


@contextmanager
def on_disk(stream: BufferedReader) -> Iterator[BufferedReader]:
    """What is left of a stream as a temporary file, for readers that need one."""
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(stream, copy)
        copy.flush()
        copy.seek(0)
        file: BufferedReader = BufferedReader(io.FileIO(os.dup(copy.fileno())), _BUFFER_BYTES)
        with file:
            yield file


class _Unpacked(io.RawIOBase):
    def __init__(self, stream: BufferedReader, limit: int) -> None:
        self._file = gzip.GzipFile(fileobj=stream)
        self._limit = limit
        self._room = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        try:
            taken = self._file.readinto(buffer)
        except (EOFError, zlib.error) as error:
            raise OSError("the gzip data is damaged or cut off") from error
        self._room -= taken
        if self._room < 0:
            raise FileRejected(
                "TOO_LARGE",
                f"unpacked it has more than {self._limit:,} bytes; EMBEDFLEET_MAX_EXPANSION sets "
                "how much a compressed file may unfold",
            )
        return taken

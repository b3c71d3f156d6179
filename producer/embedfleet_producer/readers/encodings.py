"""Texts in an encoding that the caller names, read as UTF-8 by all that follows."""

from __future__ import annotations

import codecs
import io
from io import BufferedReader
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER_BYTES = 65_536


def recoded(stream: BufferedReader, encoding: str) -> BufferedReader:
    """The stream in UTF-8; bytes that the encoding does not have stay bytes that UTF-8 has not."""
    made: BufferedReader = BufferedReader(_Recoded(stream, encoding), _BUFFER_BYTES)
    return made


class _Recoded(io.RawIOBase):
    def __init__(self, stream: BufferedReader, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self._ready = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        while not self._ready and not self._ended:
            data = self._stream.read1(_BUFFER_BYTES)
            self._ended = not data
            text = self._decoder.decode(data, final=self._ended)
            # A surrogate in UTF-8 is an error to whoever decodes it, which a lone byte may not be.
            self._ready = text.encode(errors="surrogatepass")
        taken = self._ready[: len(view)]
        view[: len(taken)] = taken
        self._ready = self._ready[len(taken) :]
        return len(taken)

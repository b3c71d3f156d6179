"""The process in which files are read whose parsers may take any time and memory.

It trusts nothing that it reads and is trusted in nothing: it gets open files, and answers JSON.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from io import BufferedReader, FileIO
from pathlib import Path
from time import process_time

from embedfleet_producer.readers import frames
from embedfleet_producer.readers.embedded_rows import EmbeddedRows
from embedfleet_producer.readers.formats import CONFINED, guarded, read_open
from embedfleet_producer.readers.options import ReadOptions
from embedfleet_producer.readers.rejections import Verdict, short_reason
from embedfleet_producer.readers.rows import Rows
from embedfleet_schema.types import Rejection

_REQUEST_BYTES = 1 << 20
_FRAME_CHARACTERS = 262_144
_FRAME_VERDICTS = 256
_BUFFER_BYTES = 65_536
_PAGES = Path("/proc/self/statm")
# Some of Python 3.13's own functions return without an exception where memory is not to be had. A
# SystemError of another kind is a parser's own flaw.
_WITHOUT_EXCEPTION = "without setting an exception"


def main(descriptor: int) -> None:
    """Serve requests until the other side is gone."""
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=descriptor) as channel, suppress(BrokenPipeError, ConnectionError):
        while _serve_one(channel):
            pass


def _serve_one(channel: socket.socket) -> bool:
    descriptors: list[int] = []

    def receive_bytes(count: int) -> bytes:
        data, received, _, _ = socket.recv_fds(channel, count, 1)
        descriptors.extend(received)
        return data

    request = frames.receive(receive_bytes, _REQUEST_BYTES)
    if request is None:
        return False
    stream: BufferedReader = BufferedReader(FileIO(descriptors[0]), _BUFFER_BYTES)
    with stream:
        try:
            _limit(request)
            kind = EmbeddedRows if request["has_vectors"] else Rows
            rows = kind(request["name"], _options(request["options"]), request["source"])
            _answer(channel, _verdicts(request, stream, rows), rows)
        except (MemoryError, SystemError):
            # Nothing that would need memory, such as a message.
            os._exit(frames.OUT_OF_MEMORY)
    return True


def _limit(request: frames.Frame) -> None:
    """What this file may take beyond what the process has taken already."""
    for name in CONFINED[request["suffix"]]:
        with suppress(ImportError):
            importlib.import_module(name)
    hard = resource.RLIM_INFINITY
    with suppress(OSError, ValueError):
        # Elsewhere than on Linux the time alone is limited.
        taken = int(_PAGES.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + request["memory"], hard))
    until = math.ceil(process_time()) + request["seconds"]
    resource.setrlimit(resource.RLIMIT_CPU, (until, hard))


def _options(values: frames.Frame) -> ReadOptions:
    """JSON has lists for tuples."""
    kept = values["metadata_columns"]
    return ReadOptions(**values | {"metadata_columns": None if kept is None else tuple(kept)})


def _verdicts(request: frames.Frame, stream: BufferedReader, rows: Rows) -> Iterator[Verdict]:
    verdicts = read_open(request["suffix"], stream, request["max_bytes"], rows)
    try:
        yield from guarded(rows.name, verdicts)
    except MemoryError:
        raise
    except Exception as error:  # a parser's own flaw; it costs this file alone
        if isinstance(error, SystemError) and _WITHOUT_EXCEPTION in str(error):
            raise
        reason = f"its reader failed with {type(error).__name__}: {short_reason(error)}"
        yield Rejection(rows.name, "UNREADABLE", reason)


def _answer(channel: socket.socket, verdicts: Iterator[Verdict], rows: Rows) -> None:
    held: list[object] = []
    characters = 0
    for verdict in verdicts:
        held.append(frames.packed(verdict))
        characters += frames.characters(verdict)
        if characters > _FRAME_CHARACTERS or len(held) >= _FRAME_VERDICTS:
            shape = asdict(rows.shape())
            frames.send(channel, {"verdicts": held, "shape": shape, "ended": False})
            held, characters = [], 0
    frames.send(channel, {"verdicts": held, "shape": asdict(rows.shape()), "ended": True})

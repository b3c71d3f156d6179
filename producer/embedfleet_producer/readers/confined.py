"""Reads files in a process of its own, which may take so much and no more."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from io import BufferedReader
from multiprocessing import spawn
from typing import Self

from embedfleet_producer.readers import frames
from embedfleet_producer.readers.limits import ReaderLimits
from embedfleet_producer.readers.rejections import FileRejected, Verdict
from embedfleet_producer.readers.rows import Rows

# Under load a process gets less than a processor; it is given up when it gets next to none.
_WALL_PER_CPU_SECOND = 10
_FRAME_ALLOWANCE = 16_000_000
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from embedfleet_producer.readers.reader_process import main; main(int(sys.argv[1]))"
)
# What an interpreter needs to start; no password or key is among it.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
# One thread and one arena: what others reserve would count as memory.
_FRUGAL = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class ConfinedReader:
    """One process for many files; started at the first, and again after one that it died of.

    Not for several threads at once. Close it, or leave its `with` block.
    """

    def __init__(self, limits: ReaderLimits, max_bytes: int) -> None:
        self._limits = limits
        self._max_bytes = max_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, suffix: str, stream: BufferedReader, rows: Rows) -> Iterator[Verdict]:
        """What the reader of a suffix says of an open file; `rows` hears its shape.

        Raises:
            FileRejected: TOO_COSTLY or UNREADABLE; what came before it stands.
        """
        channel = self._started()
        seconds = self._limits.cpu_seconds(os.fstat(stream.fileno()).st_size)
        request = {
            "suffix": suffix,
            "name": rows.name,
            "options": asdict(rows.options),
            "source": rows.source,
            "has_vectors": rows.has_vectors,
            "max_bytes": self._max_bytes,
            "memory": self._limits.reader_memory_bytes,
            "seconds": seconds,
        }
        ended = False
        channel.settimeout(seconds * _WALL_PER_CPU_SECOND)
        try:
            try:
                frames.send(channel, request, [stream.fileno()])
                for frame in self._frames(channel, seconds):
                    rows.hear(frames.shape(frame))
                    yield from frames.verdicts(frame)
                    ended = frame.get("ended") is True
            except (frames.BadFrame, ConnectionError, TimeoutError) as error:
                raise self._post_mortem(seconds) from error
            if not ended:
                raise self._post_mortem(seconds)
        finally:
            if not ended:
                self.close()

    def close(self) -> None:
        """End the process; nothing of it is left."""
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._channel = self._process = None

    def _frames(self, channel: socket.socket, seconds: int) -> Iterator[frames.Frame]:
        limit = 8 * self._max_bytes + _FRAME_ALLOWANCE
        waited = 0.0

        def receive_bytes(count: int) -> bytes:
            nonlocal waited
            channel.settimeout(max(0.01, seconds * _WALL_PER_CPU_SECOND - waited))
            begun = time.monotonic()
            try:
                return channel.recv(count)
            finally:
                waited += time.monotonic() - begun

        while (frame := frames.receive(receive_bytes, limit)) is not None:
            yield frame
            if frame.get("ended"):
                return

    def _started(self) -> socket.socket:
        if self._channel is None:
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = _start(theirs.fileno())
            self._channel = ours
        return self._channel

    def _post_mortem(self, seconds: int) -> FileRejected:
        """What the process died of, in words."""
        process = self._process
        assert process is not None  # noqa: S101 - it was started to read
        try:
            status = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            status = -signal.SIGXCPU
        if status == -signal.SIGXCPU:
            return FileRejected(
                "TOO_COSTLY",
                f"reading it takes more than {seconds:,} seconds; EMBEDFLEET_READER_SECONDS raises "
                "the limit",
            )
        if status in (frames.OUT_OF_MEMORY, -signal.SIGKILL, -signal.SIGABRT):
            return FileRejected(
                "TOO_COSTLY",
                f"reading it takes more than {self._limits.reader_memory_bytes:,} bytes of memory; "
                "EMBEDFLEET_READER_MEMORY_BYTES raises the limit",
            )
        return FileRejected("UNREADABLE", f"the process that read it ended with status {status}")


def _start(descriptor: int) -> subprocess.Popen[bytes]:
    paths = [path for path in sys.path if path]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return subprocess.Popen(
        # -P: no module of the current folder, which may be the one that is read.
        [spawn.get_executable(), "-P", "-c", _PROGRAM, str(descriptor), *paths],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        env=environment | _FRUGAL,
        # Ctrl-C is for the process that asks, which ends this one.
        process_group=0,
    )

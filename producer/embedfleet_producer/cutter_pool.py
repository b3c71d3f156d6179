"""Cutting in several processes: the texts of a window are dealt out, and come back in order."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import spawn
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar

from embedfleet_producer.chunking import Chunker, Cut
from embedfleet_producer.cutter_process import Fault, Setup, cuts_of
from embedfleet_producer.ready_made import ChunkFunction, cut_by
from embedfleet_producer.tokens import TokenCounter
from embedfleet_producer.validation import Validated
from embedfleet_schema.amounts import quantity
from embedfleet_schema.errors import EmbedfleetError, UsageError
from embedfleet_schema.types import Chunking, ChunkMode, Rejection, Space

Item = TypeVar("Item")
Result = TypeVar("Result")
Task = Literal["cuts", "readings", "cut_by_function"]

# So many parts of a window for each process: who has done the short ones takes another.
_PARTS_PER_PROCESS = 4
# A part of fewer characters is cut sooner than it is sent.
_SMALLEST_PART = 16_384
# The same part has ended so many processes when the call gives up.
_MOST_DEATHS = 3
# How many threads a tokenizer takes, which has all cores for itself otherwise.
_THREADS = "RAYON_NUM_THREADS"
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; import embedfleet_producer.cutter_process as process; "
    "process.main(int(sys.argv[1]))"
)


class _Part(NamedTuple):
    """Items of a request by their numbers, and the request as it is sent."""

    items: slice
    request: bytes
    deaths: int = 0


class CutterPool:
    """So many processes that cut for one call; they live as long as its `with` block.

    Each is a fresh interpreter (nothing is forked), and ends with the one that started it, however
    that ends. A process that dies is replaced, and what it had is cut again. What cannot be sent to
    another process is cut in this one.

    Raises, as the block is entered:
        UsageError: the caller's function is none that another process can import.
    """

    def __init__(
        self, processes: int, space: Space, chunking: Chunking, function: ChunkFunction | None
    ) -> None:
        self.processes = processes
        self._function = function
        self._setup = pickle.dumps(Setup(space, chunking, self._written(function)))
        self._running: list[_Process] = []
        # A window that is stored anew is cut anew, by the thread that writes.
        self._alone = threading.Lock()

    def __enter__(self) -> Self:
        try:
            self._running = [_Process(self._setup, self.processes) for _ in range(self.processes)]
            for each in self._running:
                self._await_ready(each)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; nothing of them is left."""
        running, self._running = self._running, []
        for each in running:
            each.kill()

    def map(
        self,
        task: Task,
        items: Sequence[Item],
        sizes: Sequence[int],
        here: Callable[[Sequence[Item]], list[Result]],
    ) -> list[Result]:
        """What processes answer for items of so many characters, in their order. `here` does the
        same in this process, for what is little or cannot be sent.
        """
        with self._alone:
            done: dict[int, list[Result]] = {}
            waiting: deque[_Part] = deque()
            for part in self._parts(sizes):
                request = self._request(task, items[part])
                if request is None:
                    done[part.start] = here(items[part])
                else:
                    waiting.append(_Part(part, request))
            try:
                for part, answer in self._answers(waiting):
                    own = here(items[part]) if answer is None else answer
                    done[part.start] = own
            except BaseException:
                # Answers that nobody waited for would be taken for those of the next request.
                self.close()
                raise
            return [each for start in sorted(done) for each in done[start]]

    def cut_by_function(
        self, documents: Sequence[tuple[Validated, ChunkMode]]
    ) -> list[Validated | Rejection]:
        """What the caller's function makes of validated documents, each with its mode."""
        function = self._function
        assert function is not None  # noqa: S101 - nobody asks without one
        # How long it takes is not known by the size: one alone may be worth a process.
        sizes = [_SMALLEST_PART + validated.size for validated, _ in documents]
        return self.map(
            "cut_by_function",
            documents,
            sizes,
            lambda part: [cut_by(function, validated, mode) for validated, mode in part],
        )

    def _parts(self, sizes: Sequence[int]) -> Iterator[slice]:
        """Neighbouring items as parts of about one size."""
        most = _PARTS_PER_PROCESS * self.processes
        wanted = max(_SMALLEST_PART, sum(sizes) // most)
        start = size = 0
        for end, each in enumerate(sizes, 1):
            size += each
            if size >= wanted:
                yield slice(start, end)
                start, size = end, 0
        if start < len(sizes):
            yield slice(start, len(sizes))

    def _request(self, task: Task, items: Sequence[object]) -> bytes | None:
        """None where processes do not take it."""
        if not self._running:
            return None
        try:
            return pickle.dumps((task, items), pickle.HIGHEST_PROTOCOL)
        except Exception:  # noqa: BLE001 - objects of the caller's say how they are pickled
            return None

    def _answers(self, waiting: deque[_Part]) -> Iterator[tuple[slice, Any]]:
        idle = list(self._running)
        busy: dict[Connection, tuple[_Process, _Part]] = {}
        while waiting or busy:
            while waiting and idle:
                process, part = idle.pop(), waiting.popleft()
                # One that is dead takes nothing, or does not answer.
                process.send(part.request)
                busy[process.channel] = (process, part)
            for channel in wait(list(busy)):
                process, part = busy.pop(channel)  # type: ignore[call-overload]
                try:
                    answer = process.receive()
                except (EOFError, OSError):
                    waiting.appendleft(part._replace(deaths=part.deaths + 1))
                    idle.append(self._replaced(process, waiting[0]))
                    continue
                idle.append(process)
                yield part.items, answer

    def _replaced(self, dead: _Process, part: _Part) -> _Process:
        """A new process for one that died with a part, which may be the reason.

        Raises:
            EmbedfleetError: the part ended too many of them.
        """
        status = dead.kill()
        if part.deaths == _MOST_DEATHS:
            count = quantity(part.items.stop - part.items.start, "text")
            reason = (
                f"a process that cuts documents ended with status {status}, and so did "
                f"{_MOST_DEATHS - 1} others with the same {count}. If they had no memory left, use "
                "fewer processes; nothing is lost: enqueue again"
            )
            raise EmbedfleetError(reason=reason)
        new = _Process(self._setup, self.processes)
        self._running[self._running.index(dead)] = new
        self._await_ready(new)
        return new

    def _await_ready(self, process: _Process) -> None:
        try:
            fault: Fault | None = process.receive()
        except (EOFError, OSError):
            fault = Fault(f"it ended with status {process.kill()}", of_function=False)
        if fault is None:
            return
        if fault.of_function:
            raise self._not_importable(fault.reason)
        raise EmbedfleetError(
            reason=f"a process that cuts documents cannot start: {fault.reason}. If it had no "
            "memory left, use fewer processes; nothing is lost: enqueue again"
        )

    def _written(self, function: ChunkFunction | None) -> bytes | None:
        if function is None:
            return None
        try:
            return pickle.dumps(function)
        except Exception as error:
            raise self._not_importable(error) from error

    def _not_importable(self, fault: object) -> UsageError:
        return UsageError(
            reason=f"enqueue: processes={self.processes} needs a chunk function that other "
            f"processes can import. Define it in a module, or use processes=1 ({fault})"
        )


class SharedChunker(Chunker):
    """A chunker whose work the processes of a pool do."""

    def __init__(
        self, space: Space, chunking: Chunking, counter: TokenCounter, pool: CutterPool
    ) -> None:
        super().__init__(space, chunking, counter)
        self._pool = pool

    def cuts(
        self,
        texts: Sequence[str],
        modes: Sequence[ChunkMode],
        reserved: Sequence[int] | None = None,
    ) -> list[list[Cut]]:
        """Where each text is cut."""

        def here(items: Sequence[tuple[str, ChunkMode, int]]) -> list[list[Cut]]:
            return cuts_of(self, items)

        items = list(zip(texts, modes, reserved or [0] * len(texts), strict=True))
        return self._pool.map("cuts", items, list(map(len, texts)), here)

    def readings(self, contents: Sequence[str]) -> list[tuple[int, float]]:
        """The tokens of each ready-made chunk, and the share that the tokenizer does not know."""

        def here(items: Sequence[str]) -> list[tuple[int, float]]:
            return Chunker.readings(self, items)

        return self._pool.map("readings", contents, list(map(len, contents)), here)


class _Process:
    """One process, and the channel to it."""

    def __init__(self, setup: bytes, processes: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._popen = _start(theirs.fileno(), processes)
        self.channel = Connection(ours.detach())
        self.send(setup)

    def send(self, request: bytes) -> None:
        """Of one that is dead, `receive` tells."""
        with suppress(OSError):
            self.channel.send_bytes(request)

    def receive(self) -> Any:  # noqa: ANN401 - what a task answers
        """Raises EOFError or OSError where it is gone."""
        return pickle.loads(self.channel.recv_bytes())  # noqa: S301 - our own process

    def kill(self) -> int:
        """Returns its exit status."""
        self.channel.close()
        self._popen.kill()
        return self._popen.wait()


def _start(descriptor: int, processes: int) -> subprocess.Popen[bytes]:
    threads = max(1, (os.cpu_count() or 1) // processes)
    here = [path or str(Path.cwd()) for path in sys.path]
    return subprocess.Popen(
        [spawn.get_executable(), "-c", _PROGRAM, str(descriptor), *here],
        # The parent may be reading documents from its own.
        stdin=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        env={_THREADS: str(threads), **os.environ},
        # Ctrl-C is for the process that asks, which ends this one.
        process_group=0,
    )

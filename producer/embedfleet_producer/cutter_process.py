"""A process that cuts for a producer: it gets texts, and answers numbers. It knows no database."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, NamedTuple

from embedfleet_producer.chunking import Chunker, Cut
from embedfleet_producer.ready_made import ChunkFunction, cut_by
from embedfleet_producer.tokens import counter_for
from embedfleet_schema.types import Chunking, ChunkMode, Space

# What it does with the items of a request, by the name of a method of `Tasks`.
Answer = list[Any]


class Setup(NamedTuple):
    """What a process is told first; `function` is the caller's own, as pickle writes it."""

    space: Space
    chunking: Chunking
    function: bytes | None


class NotImportable(Exception):
    """The caller's function cannot be loaded in another process."""


class Fault(NamedTuple):
    """Why a process cannot begin, and whether that is the caller's function."""

    reason: str
    of_function: bool


class Tasks:
    """What a producer may ask for."""

    def __init__(self, setup: Setup) -> None:
        counter = counter_for(setup.space, setup.chunking)
        self._chunker = Chunker(setup.space, setup.chunking, counter)
        self._function = None if setup.function is None else _loaded(setup.function)

    def cuts(self, items: Sequence[Any]) -> Answer:
        """Of texts with their modes and what is reserved, where each is cut."""
        return cuts_of(self._chunker, items)

    def readings(self, items: Sequence[Any]) -> Answer:
        """Of ready-made chunks, how many tokens each has."""
        return self._chunker.readings(items)

    def cut_by_function(self, items: Sequence[Any]) -> Answer:
        """Of validated documents with their modes, what the caller's function makes of each."""
        function = self._function
        assert function is not None  # noqa: S101 - nobody asks without one
        return [cut_by(function, validated, mode) for validated, mode in items]


def _loaded(function: bytes) -> ChunkFunction:
    try:
        found: ChunkFunction = pickle.loads(function)  # noqa: S301 - our producer wrote it
    except Exception as error:
        raise NotImportable from error
    return found


def cuts_of(chunker: Chunker, items: Sequence[tuple[str, ChunkMode, int]]) -> list[list[Cut]]:
    """Where texts are cut, each by its mode and with what is reserved, by this process."""
    if not items:
        return []
    texts, modes, reserved = zip(*items, strict=True)
    return Chunker.cuts(chunker, texts, modes, reserved)


def main(descriptor: int) -> None:
    """Answer requests until the other side is gone."""
    # Ctrl-C is for the producer, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Connection(descriptor)
    requests: SimpleQueue[bytes] = SimpleQueue()
    setup = channel.recv_bytes()
    threading.Thread(target=_receive, args=(channel, requests), daemon=True).start()
    try:
        tasks = Tasks(pickle.loads(setup))  # noqa: S301 - our producer wrote it
    except Exception as error:  # noqa: BLE001 - the producer says it
        cause = error.__cause__ if isinstance(error, NotImportable) else error
        fault = Fault(f"{type(cause).__name__}: {cause}", isinstance(error, NotImportable))
        channel.send_bytes(pickle.dumps(fault))
        return
    channel.send_bytes(pickle.dumps(None))
    while True:
        channel.send_bytes(_answered(tasks, requests.get()))


def _receive(channel: Connection, requests: SimpleQueue[bytes]) -> None:
    """Ends the process with its producer, even where the caller's function never returns."""
    while True:
        try:
            requests.put(channel.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)


def _answered(tasks: Tasks, request: bytes) -> bytes:
    """The answer, or None where the producer has to do it itself: it then meets the same error."""
    try:
        task, items = pickle.loads(request)  # noqa: S301 - our producer wrote it
        work: Callable[[Sequence[Any]], Answer] = getattr(tasks, task)
        return pickle.dumps(work(items), pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001
        return pickle.dumps(None)

"""A local model tried in several processes at once, as workers run it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal
from threading import BrokenBarrierError

from embedfleet_schema.types import Space
from embedfleet_workers.embedders.engine import Wanted
from embedfleet_workers.embedders.local import LocalEmbedder

# A model of some gigabytes is read from a slow disk, and converted.
LOADED_S = 900.0

# Of a process that runs trials: its one barrier.
_start: list[Barrier] = []


@dataclass(frozen=True, slots=True)
class Trial:
    """What each process of a trial does."""

    space: Space
    directory: Path
    wanted: Wanted
    threads: int
    texts: Sequence[str]
    seconds: float


class Side:
    """Processes that are kept, so that each loads the libraries once."""

    def __init__(self, pool: ProcessPoolExecutor, processes: int) -> None:
        self.processes = processes
        self._pool = pool

    def rate(self, trial: Trial) -> float | None:
        """Chunks per second of all processes together; None where the model does not run so.

        Raises:
            What `LocalEmbedder` raises.
        """
        running = [self._pool.submit(_run, trial) for _ in range(self.processes)]
        rates = [each.result() for each in sorted(running, key=_order)]
        return None if None in rates else sum(rate or 0.0 for rate in rates)


@contextmanager
def side_by_side(processes: int) -> Iterator[Side]:
    """So many processes, that start to measure at the same moment."""
    context = get_context("spawn")
    start = context.Barrier(processes)
    pool = ProcessPoolExecutor(processes, context, initializer=_prepare, initargs=(start,))
    try:
        yield Side(pool, processes)
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare(start: Barrier) -> None:
    """Ctrl-C ends the command, which then ends its processes."""
    _start.append(start)
    signal(SIGINT, SIG_IGN)


def _run(trial: Trial) -> float | None:
    (start,) = _start
    try:
        return _measured(trial, start)
    except BaseException:
        start.abort()
        raise


def _measured(trial: Trial, start: Barrier) -> float | None:
    embedder = LocalEmbedder(trial.space, trial.directory, "cpu", trial.threads, trial.wanted)
    with closing(embedder):
        if (embedder.engine, embedder.precision) != (trial.wanted.engine, trial.wanted.precision):
            return None
        # A round in which engines prepare for the shapes.
        embedder.embed(trial.texts, "document")
        start.wait(LOADED_S)
        return _rate(embedder, trial.texts, trial.seconds)


def _rate(embedder: LocalEmbedder, texts: Sequence[str], seconds: float) -> float:
    started, rounds = time.monotonic(), 0
    while rounds == 0 or time.monotonic() - started < seconds:
        embedder.embed(texts, "document")
        rounds += 1
    return rounds * len(texts) / (time.monotonic() - started)


def _order(done: Future[float | None]) -> int:
    """First those that failed by themselves, whose error tells something; the others waited for
    them in vain.
    """
    error = done.exception()
    return 1 if error is None else 2 if isinstance(error, BrokenBarrierError) else 0

"""Progress of a job and of an enqueue: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column
from rich.text import Text

from embedfleet.liveness import will_have_worker
from embedfleet_schema.amounts import quantity
from embedfleet_schema.money import money
from embedfleet_schema.setting_fields import default_data
from embedfleet_schema.settings import Settings
from embedfleet_schema.store.jobs import JobStatus

if TYPE_CHECKING:
    from embedfleet.connections import Connections
    from embedfleet_producer.enqueue import Enqueued

MINUTE, HOUR = 60, 3_600
LINE_EVERY_SECONDS = 5.0
PATIENCE_SECONDS = 5.0
# Columns; in fewer the figures matter more.
ROOM_FOR_A_BAR = 80
SPINNER = "line"

ShowJob = Callable[[JobStatus], None]
ShowEnqueued = Callable[["Enqueued"], None]


@contextmanager
def job_progress(connections: Connections) -> Iterator[ShowJob]:
    """Show a job on standard error; yields what takes each new status of it.

    Says once how to start a worker, where texts wait and nobody is there to embed them.
    """
    console = _console()
    hints = _Hints(connections)
    with _bar(console) if console.is_terminal else _lines(console) as draw:

        def show(status: JobStatus) -> None:
            draw(status)
            for hint in hints.due(status):
                console.print(hint, soft_wrap=True)

        yield show


@contextmanager
def activity(first: str) -> Iterator[Callable[[str], None]]:
    """Show on standard error that something goes on; yields what takes each new text about it."""
    console = _console()
    if console.is_terminal:
        # As Text: a string would be read as markup, and texts name files and models.
        with console.status(Text(first), spinner=SPINNER) as status:
            yield lambda text: status.update(Text(text))
    else:
        yield _now_and_then(console)


@contextmanager
def enqueue_progress() -> Iterator[ShowEnqueued]:
    """Show how far an enqueue has come, on standard error; yields what takes its counts."""
    began = time.monotonic()
    with activity("reading") as tell:

        def show(counts: Enqueued) -> None:
            rate = counts.documents / max(time.monotonic() - began, 0.001)
            documents, chunks = (
                quantity(counts.documents, "document"),
                quantity(counts.chunks, "chunk"),
            )
            tell(f"stored {documents}, {chunks}, {rate:,.0f} documents/s")

        yield show


def command(settings: Settings, words: str) -> str:
    """A command to be typed next; it names the data folder where that is not the usual one."""
    if not settings.uses_embedded_stack or settings.data == default_data():
        return f"embedfleet {words}"
    return f"embedfleet --data {shlex.quote(str(settings.data))} {words}"


def duration(seconds: float) -> str:
    """A time as people say it: "8 s", "3 min 20 s", "2 h 05 min"."""
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} min"


def describe(status: JobStatus) -> str:
    """Where a job stands, in one line."""
    parts = [f"{status.embedded:,}/{status.total:,} texts embedded"]
    if status.finished and not status.total:
        parts = ["nothing new to embed"]
    if status.failed:
        parts.append(f"{status.failed:,} failed")
    if status.finished:
        parts.append(f"{status.state} after {duration(status.elapsed_seconds)}")
        if status.state == "interrupted":
            parts.append(str(status.reason))
        return ", ".join(parts)
    if status.state != "running":
        parts.append(status.state)
    if status.chunks_per_second:
        parts.append(f"{status.chunks_per_second:,.1f} chunks/s")
    if status.eta_seconds is not None:
        parts.append(f"{duration(status.eta_seconds)} left")
    if status.budget_usd is not None:
        parts += _budget(status, status.budget_usd)
    if status.reason:
        parts.append(f"waiting: {status.reason}")
    return ", ".join(parts)


def _budget(status: JobStatus, budget_usd: float) -> Iterator[str]:
    """What of a budget is spent, and what may be."""
    yield f"{money(status.spent_usd or 0)} of {money(budget_usd)} spent"
    if status.reserved_usd:
        yield f"{money(status.reserved_usd)} reserved"
    if status.unsettled_usd:
        yield f"{money(status.unsettled_usd)} perhaps spent without an answer"


def name(status: JobStatus) -> str:
    return f"job {status.id} ({status.collection})"


@contextmanager
def _bar(console: Console) -> Iterator[ShowJob]:
    """A bar that stays where it ended."""
    progress = Progress(
        SpinnerColumn(SPINNER, finished_text=" "),
        TextColumn("{task.description}", markup=False),
        *([BarColumn(bar_width=24)] if console.width >= ROOM_FOR_A_BAR else []),
        # They go on in the next line of a narrow terminal.
        TextColumn("{task.fields[figures]}", markup=False, table_column=Column(overflow="fold")),
        console=console,
    )
    task = progress.add_task("job", total=None, figures="")

    def draw(status: JobStatus) -> None:
        # A job that had nothing to embed is a full bar; one that still loads has no end yet.
        empty = status.finished and not status.total
        progress.update(
            task,
            description=name(status),
            figures=describe(status),
            completed=1 if empty else status.embedded + status.failed,
            total=1 if empty else status.total or None,
        )

    with progress:
        yield draw


@contextmanager
def _lines(console: Console) -> Iterator[ShowJob]:
    say = _now_and_then(console)
    yield lambda status: say(f"{name(status)}: {describe(status)}", last=status.finished)


def _now_and_then(console: Console) -> Callable[..., None]:
    """Prints a line if the one before is a few seconds old, or if it is the last."""
    said_at = time.monotonic()

    def say(line: str, *, last: bool = False) -> None:
        nonlocal said_at
        if last or time.monotonic() - said_at >= LINE_EVERY_SECONDS:
            said_at = time.monotonic()
            console.print(line, soft_wrap=True)

    return say


def _console() -> Console:
    return Console(stderr=True, highlight=False, markup=False)


class _Hints:
    """What a person who waits should know, each said once."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._look_at: float | None = None
        self._said: set[str] = set()

    def due(self, status: JobStatus) -> list[str]:
        """The hints that this status calls for and that were not given yet."""
        if status.state == "paused":
            self._look_at = None
            return self._once("paused", f"It is paused. Go on: embedfleet resume {status.resume}")
        if status.finished or not status.queued:
            self._look_at = None
            return []
        if "worker" in self._said or not self._is_time():
            return []
        queue = status.queue
        if will_have_worker(self._connections, queue):
            return []
        start = command(self._connections.settings, f"worker --queue {queue}")
        return self._once("worker", f"No worker serves queue {queue}. Start one: {start}")

    def _once(self, key: str, hint: str) -> list[str]:
        if key in self._said:
            return []
        self._said.add(key)
        return [hint]

    def _is_time(self) -> bool:
        """Whether texts have waited for a while since the last look."""
        now = time.monotonic()
        if self._look_at is None:
            self._look_at = now + PATIENCE_SECONDS
        if now < self._look_at:
            return False
        self._look_at = now + PATIENCE_SECONDS
        return True

"""The demo: the docstrings of Python's standard library, embedded by a fleet and searched."""

from __future__ import annotations

import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from embedfleet.embedded import ready
from embedfleet.fleet import Fleet
from embedfleet.liveness import has_worker
from embedfleet.local_processes import uninterrupted
from embedfleet.local_workers import last_log_lines, running_workers, workers
from embedfleet.progress import command, duration, enqueue_progress, job_progress
from embedfleet.stack import down, status
from embedfleet.stack.processes import wait_until
from embedfleet.stdlib_docs import documents
from embedfleet_schema.amounts import quantity
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.errors import UnknownCollection, WorkerStartFailed
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import jobs

if TYPE_CHECKING:
    from rich.console import Console

    from embedfleet.collection import Collection
    from embedfleet.job import Job
    from embedfleet_schema.hits import Hit
    from embedfleet_schema.store.jobs import JobStatus

COLLECTION = "stdlib"
MODEL = "all-MiniLM-L6-v2"
CHUNKS = 1_000
QUESTIONS = ("read a zip file", "parse a date from a string", "how much disk space is free")
HITS = 3
KEY_COLUMNS = 36
# Small ones: progress that moves every second or two, and a Ctrl-C that waits no longer.
BATCH_TOKENS = 2_048
POLL_SECONDS = 0.25
# A server that was launched a moment ago has no pid file to be stopped by.
SETTLE_SECONDS = 1.0


def run_demo(
    settings: Settings,
    *,
    console: Console,
    chunks: int | None = CHUNKS,
    model: str | None = None,
    workers: int = 2,
) -> dict[str, list[Hit]]:
    """Start the embedded stack and workers, embed docstrings; returns three questions' hits.

    The workers end with the demo. The servers stay up after a good end; after Ctrl-C or an error
    they are stopped if the demo started them. What is embedded is never embedded again.

    Args:
        chunks: about how many; None for the whole library.
        model: by default the collection's own if it is there, else all-MiniLM-L6-v2.

    Raises:
        ModelNotFound, BadModelName: before anything is started, where `model` is given.
        ModelMismatch: the collection has vectors of another model.
        WorkerStartFailed: the workers end before the work does.
    """
    if model is not None:
        resolve_space(model)
    own = _own(settings)
    with _ended_by_signals(), _servers(own, console), Fleet(own) as fleet:
        collection = _open(fleet, model)
        _fill(fleet, collection, chunks, workers, console)
        answers = _answer(collection, console)
    _say_how_to_go_on(own, console, elsewhere=settings.database_url is not None)
    return answers


def _own(settings: Settings) -> Settings:
    """The demo's settings: it keeps away from a database that is there for other things."""
    tokens = min(BATCH_TOKENS, settings.batch_tokens_cpu)
    changes = {"database_url": None, "redis_url": None, "batch_tokens_cpu": tokens}
    return settings.model_copy(update=changes)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the demo in order, as Ctrl-C does."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if not _is_ignored(each)]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN  # as nohup wants it


@contextmanager
def _servers(settings: Settings, console: Console) -> Iterator[None]:
    """The embedded stack; what was started here is stopped unless the block ends well."""
    found = status(settings.data)
    was_there = found.postgres.running or found.valkey.running
    verb = "Using" if was_there else "Starting"
    console.print(f"{verb} the servers in {settings.data}", soft_wrap=True)
    launching = True
    try:
        ready(settings.data, on_step=lambda step: console.print(f"  {step}", soft_wrap=True))
        launching = False
        yield
    except BaseException:
        if not was_there:
            with uninterrupted():
                console.print("Stopping the servers")
                if launching:
                    wait_until(lambda: status(settings.data).running, SETTLE_SECONDS)
                down(settings.data)
        raise


def _open(fleet: Fleet, model: str | None) -> Collection:
    try:
        return fleet.collection(COLLECTION, model)
    except UnknownCollection:
        return fleet.collection(COLLECTION, MODEL)


def _fill(
    fleet: Fleet, collection: Collection, chunks: int | None, count: int, console: Console
) -> None:
    """Enqueue the docstrings, and have workers embed what lacks a vector."""
    found = documents(chunks)
    console.print(
        f"Enqueueing {len(found):,} docstrings of Python {platform.python_version()} into "
        f"collection {collection.name!r} ({collection.info.space.name})",
        soft_wrap=True,
    )
    before = collection.counts().vectors
    with enqueue_progress() as show:
        job = collection.enqueue(found, on_window=show)
    _drop_leftovers(fleet, collection, job)
    if not job.status.total:
        console.print("0 chunks embedded: all of them already have a vector")
        return
    with _running_workers(fleet, collection, count, console) as check:
        done = _watch(fleet, job, check)
    stored = collection.counts().vectors - before
    console.print(f"{quantity(stored, 'chunk')} embedded in {duration(done.elapsed_seconds)}")
    if done.failed:
        hint = command(fleet.settings, f"failures {COLLECTION}")
        console.print(f"{done.failed:,} failed; see: {hint}", soft_wrap=True)


def _drop_leftovers(fleet: Fleet, collection: Collection, latest: Job) -> None:
    """Cancel what a run that was cut off left waiting: the latest job has it, too."""
    for job_id in jobs.latest(fleet.db, collection_id=collection.info.id):
        job = fleet.job(job_id)
        if job.id != latest.id and not job.status.finished:
            job.cancel()


@contextmanager
def _running_workers(
    fleet: Fleet, collection: Collection, count: int, console: Console
) -> Iterator[Callable[[], None]]:
    """Workers at work; yields a check that raises WorkerStartFailed once none is left."""
    began, data, queue = time.time(), fleet.settings.data, collection.info.queue

    def check() -> None:
        if not running_workers(data):
            said = last_log_lines(data, began) or "their logs are empty"
            raise WorkerStartFailed(reason=f"{said} (logs: {data / 'logs'})")

    console.print(f"Starting {quantity(count, 'worker')} on queue {queue}")
    with workers(data, count, queue=queue):
        try:
            while not has_worker(fleet, queue):
                check()
                time.sleep(POLL_SECONDS)
            yield check
        except (KeyboardInterrupt, SystemExit):
            console.print("Stopping the workers: each finishes its batch first")
            raise


def _watch(fleet: Fleet, job: Job, check: Callable[[], None]) -> JobStatus:
    with job_progress(fleet) as show:
        while not (standing := job.status).finished:
            show(standing)
            check()
            time.sleep(POLL_SECONDS)
        show(standing)
    return standing


def _answer(collection: Collection, console: Console) -> dict[str, list[Hit]]:
    console.print("Loading the model, to turn questions into vectors")
    answers = {question: collection.search(question, k=HITS) for question in QUESTIONS}
    for question, hits in answers.items():
        console.print(f"\n{question}", style="bold")
        _show(hits, console)
    console.print("\nThe SQL that found them ($1 is the vector of the question):", style="bold")
    console.print(collection.search_sql(k=HITS), emoji=False, soft_wrap=True)
    return answers


def _show(hits: Sequence[Hit], console: Console) -> None:
    for hit in hits:
        line = f"  {hit.score:.3f}  {hit.document:{KEY_COLUMNS}}  {_first_line(hit)}"
        console.print(line, emoji=False, no_wrap=True, overflow="ellipsis")


def _first_line(hit: Hit) -> str:
    """The first line of the docstring: a document's first chunk starts with a heading."""
    _heading, _, docstring = hit.content.partition("\n\n")
    return (docstring or hit.content).strip().partition("\n")[0]


def _say_how_to_go_on(settings: Settings, console: Console, *, elsewhere: bool) -> None:
    console.print("\nThe workers are stopped; the servers stay up. Go on with:", style="bold")
    for words, why in (
        (f'search {COLLECTION} "shuffle a list"', "ask something else"),
        (f'search {COLLECTION} "copy a folder" --sql', "the statement, for code of your own"),
        ("up --show-urls", f"the URL for psql; the rows are in the view embedfleet.{COLLECTION}"),
        ("demo --all", "every docstring of the library"),
        ("down", f"stop the servers; the data stay in {settings.data}"),
    ):
        console.print(f"  {command(settings, words)}", soft_wrap=True)
        console.print(f"      {why}", soft_wrap=True)
    if elsewhere:
        console.print(
            "The environment names another database, which the demo did not use. For these "
            "commands, unset EMBEDFLEET_DATABASE_URL and DATABASE_URL.",
            soft_wrap=True,
        )

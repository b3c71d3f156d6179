"""Worker processes on this machine, for the embedded stack of a data folder."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedfleet.local_processes import LocalProcess, end, environment_of, spawn, uninterrupted
from embedfleet.stack.files import Folder, last_words
from embedfleet.stack.processes import wait_until
from embedfleet_schema.database import Database
from embedfleet_schema.errors import WorkerStartFailed
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import workers as workers_table
from embedfleet_schema.types import Queue
from embedfleet_workers.cores import cores

# A few, unless the machine has much else to do.
SIGN_ON_SECONDS = 120.0
NO_VARIABLES: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class LocalWorker(LocalProcess):
    """A started worker."""

    queue: Queue


def start_workers(
    data: Path,
    count: int,
    *,
    queue: Queue = "cpu",
    concurrency: int | None = None,
    env: Mapping[str, str] = NO_VARIABLES,
) -> list[int]:
    """Have `count` workers of `queue` running, and return the pids of all that do.

    They outlive this process and its terminal, until `stop_workers`. What they say goes to
    `logs/worker-<number>.log` in the data folder. They serve the embedded stack there, whatever
    other database the environment names; `env` has the last word.

    Args:
        concurrency: slots of each; by default one for cpu, for other queues what suits the machine.

    Raises:
        WorkerStartFailed: a process cannot be started.
    """
    data = data.expanduser().resolve()
    _fill_up(data, count, queue, concurrency, env, started=[])
    return [worker.pid for worker in _running(data) if worker.queue == queue]


def living_workers(
    db: Database,
    settings: Settings,
    count: int,
    *,
    queue: Queue = "cpu",
    env: Mapping[str, str] = NO_VARIABLES,
) -> list[int]:
    """`start_workers`, once each of them has signed on: then they take what waits.

    Raises:
        WorkerStartFailed: one ended before, or says nothing; the message quotes its log.
    """
    began, data = time.time(), settings.data
    pids = start_workers(data, count, queue=queue, env=env)

    def all_live() -> bool:
        known = workers_table.recent(db)
        lacking = set(pids) - {each.pid for each in known if each.is_alive}
        if lacking - set(running_workers(data)):
            raise WorkerStartFailed(reason=_what_they_said(data, began))
        return not lacking

    if not wait_until(all_live, SIGN_ON_SECONDS):
        raise WorkerStartFailed(
            reason=f"no heartbeat after the start: {_what_they_said(data, began)}"
        )
    return pids


def _what_they_said(data: Path, since: float) -> str:
    return f"{last_log_lines(data, since) or 'its log is empty'} (logs: {_logs(data)})"


def stop_workers(data: Path) -> int:
    """Stop all workers of the data folder; returns how many there were.

    Each finishes its batch first; one that does not end within a minute is killed, and its batch
    goes to another worker when its lease has run out.
    """
    data = data.expanduser().resolve()
    if not _homes(data).is_dir():
        return 0
    with _locked(data):
        return _stop(_running(data))


def running_workers(data: Path, *, queue: Queue | None = None) -> list[int]:
    """The pids of the workers that run in the data folder, of one queue or all."""
    running = _running(data.expanduser().resolve())
    return [worker.pid for worker in running if queue in (None, worker.queue)]


@contextmanager
def workers(
    data: Path,
    count: int,
    *,
    queue: Queue = "cpu",
    concurrency: int | None = None,
    env: Mapping[str, str] = NO_VARIABLES,
) -> Iterator[None]:
    """`start_workers` for a while: those that it started end with the block."""
    data = data.expanduser().resolve()
    started: list[LocalWorker] = []
    try:
        _fill_up(data, count, queue, concurrency, env, started=started)
        yield
    finally:
        if started:
            with uninterrupted(), _locked(data):
                _stop(started)


def last_log_lines(data: Path, since: float) -> str:
    """What the workers' logs that were written to after `since` end with."""
    return last_words(_logs(data).glob("worker-*.log"), since)


def _fill_up(
    data: Path,
    count: int,
    queue: Queue,
    concurrency: int | None,
    env: Mapping[str, str],
    *,
    started: list[LocalWorker],
) -> None:
    """Start what lacks; each goes to `started` at once, so that nobody loses sight of it."""
    Folder(data).check()
    _homes(data).mkdir(mode=0o700, parents=True, exist_ok=True)
    _logs(data).mkdir(mode=0o700, exist_ok=True)
    slots = concurrency or (1 if queue == "cpu" else None)
    with _locked(data):
        running = _running(data)
        lacking = count - sum(worker.queue == queue for worker in running)
        taken = {worker.home for worker in running}
        homes = (_homes(data) / str(number) for number in range(1, count + len(taken) + 1))
        free = [home for home in homes if home not in taken][: max(0, lacking)]
        environment = _environment(data, count * (slots or 1), env)
        for home in free:
            with uninterrupted():
                started.append(_launch(home, _logs(data), queue, slots, environment))


def _launch(
    home: Path, logs: Path, queue: Queue, slots: int | None, environment: Mapping[str, str]
) -> LocalWorker:
    command = ["worker", "--queue", queue]
    command += [] if slots is None else ["--concurrency", str(slots)]
    pid = spawn(command, home, logs / f"worker-{home.name}.log", environment)
    record = {"pid": pid, "queue": queue}
    (home / "worker.json").write_text(json.dumps(record))
    return LocalWorker(home, pid, queue)


def _environment(data: Path, processes: int, env: Mapping[str, str]) -> dict[str, str]:
    # Workers that share the cores must not all want all of them.
    threads = {"EMBEDFLEET_TORCH_THREADS": str(max(1, cores() // max(1, processes)))}
    return threads | environment_of(data) | dict(env)


def _running(data: Path) -> list[LocalWorker]:
    found = map(_read, sorted(_homes(data).glob("*/worker.json")))
    return [worker for worker in found if worker is not None and worker.process() is not None]


def _read(record: Path) -> LocalWorker | None:
    try:
        told = json.loads(record.read_text())
        return LocalWorker(record.parent, int(told["pid"]), told["queue"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        # Removed, or cut off by a crash while it was written.
        return None


def _stop(started: Sequence[LocalWorker]) -> int:
    asked = end(started)
    for worker in started:
        (worker.home / "worker.json").unlink(missing_ok=True)
    return asked


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """One command at a time starts or stops the workers of a folder."""
    with (_homes(data) / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _homes(data: Path) -> Path:
    return Folder(data).workers


def _logs(data: Path) -> Path:
    return Folder(data).logs

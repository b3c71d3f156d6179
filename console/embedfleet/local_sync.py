"""The process on this machine that follows tables, for the embedded stack of a data folder."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedfleet.local_processes import LocalProcess, end, environment_of, spawn, uninterrupted
from embedfleet.stack.files import Folder

RECORD = "sync.json"


def start_sync(data: Path) -> int:
    """Have `embedfleet sync run` running, and return its pid. It outlives this process, until
    `stop_sync`. What it says goes to `logs/sync.log` in the data folder.

    Raises:
        WorkerStartFailed: it cannot be started.
    """
    data = data.expanduser().resolve()
    Folder(data).check()
    home, logs = _home(data), Folder(data).logs
    for folder in (home, logs):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(home):
        running = _running(home)
        if running is not None:
            return running.pid
        with uninterrupted():
            pid = spawn(["sync", "run"], home, logs / "sync.log", environment_of(data))
            (home / RECORD).write_text(json.dumps({"pid": pid}))
        return pid


def stop_sync(data: Path) -> bool:
    """Stop it, once it has stored what it is storing; whether there was one."""
    home = _home(data.expanduser().resolve())
    if not home.is_dir():
        return False
    with _locked(home):
        running = _running(home)
        stopped = running is not None and end([running]) > 0
        (home / RECORD).unlink(missing_ok=True)
        return stopped


def _running(home: Path) -> LocalProcess | None:
    try:
        found = LocalProcess(home, int(json.loads((home / RECORD).read_text())["pid"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        # Removed, or cut off by a crash while it was written.
        return None
    return found if found.process() is not None else None


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One command at a time starts or stops it."""
    with (home / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _home(data: Path) -> Path:
    return Folder(data).workers / "sync"

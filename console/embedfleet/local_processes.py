"""Processes that a command leaves behind on this machine: started, recognised, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from embedfleet.stack.files import appending
from embedfleet.stack.processes import wait_until
from embedfleet_schema.errors import WorkerStartFailed
from embedfleet_schema.settings import Settings

LOG_BYTES = 10_000_000
# A worker that is told to stop finishes its batch: seconds with a small model, and never as long
# as this unless it hangs.
WARM_SECONDS = 60.0
KILL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class LocalProcess:
    """A started process; it works in the folder `home`, which tells it from a reused pid."""

    home: Path
    pid: int

    def process(self) -> psutil.Process | None:
        """The process, while it lives and is this one."""
        try:
            process = psutil.Process(self.pid)
            ended = process.status() == psutil.STATUS_ZOMBIE
            return process if not ended and Path(process.cwd()).samefile(self.home) else None
        except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
            # Gone, or the pid is another user's by now.
            return None


def spawn(words: Sequence[str], home: Path, log: Path, environment: Mapping[str, str]) -> int:
    """Start a command of ours in the folder `home`; it outlives this process and its terminal.

    Raises:
        WorkerStartFailed: it cannot be started.
    """
    home.mkdir(mode=0o700, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.old"))
    # -P: nothing is imported from the working folder.
    command = [sys.executable, "-P", "-m", "embedfleet", *words]
    try:
        with appending(log) as output:
            process = subprocess.Popen(
                command,
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise WorkerStartFailed(reason=str(error)) from error
    # It lives on without this object, which would otherwise complain about that.
    process.returncode = 0
    return process.pid


def environment_of(data: Path) -> dict[str, str]:
    """Our environment, but with the embedded stack's servers."""
    inherited = {name: value for name, value in os.environ.items() if name not in _url_names()}
    return inherited | {"EMBEDFLEET_DATA": str(data)}


def end(started: Sequence[LocalProcess]) -> int:
    """Ask all to end, and wait; then kill what still runs, with its children. Returns how many
    there were.
    """
    asked = [each for each in started if _signal(each.process(), signal.SIGTERM)]
    if not _ended(asked, WARM_SECONDS):
        for each in asked:
            if (process := each.process()) is not None:
                family = [*process.children(recursive=True), process]
                for member in family:
                    _signal(member, signal.SIGKILL)
        _ended(asked, KILL_SECONDS)
    for each in started:
        with suppress(ChildProcessError):  # another process's child
            os.waitpid(each.pid, os.WNOHANG)
    return len(asked)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off signals that end a command to the end of the block, lest it be left half done."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals only ever interrupt the main thread
        return
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    # A Python function, since processes started meanwhile would inherit SIG_IGN.
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _url_names() -> set[str]:
    """Every variable that names a server."""
    aliases = (Settings.model_fields[url].validation_alias for url in ("database_url", "redis_url"))
    return {str(name) for alias in aliases for name in getattr(alias, "choices", ())}


def _signal(process: psutil.Process | None, number: signal.Signals) -> bool:
    if process is None:
        return False
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True


def _ended(asked: Sequence[LocalProcess], seconds: float) -> bool:
    return wait_until(lambda: all(each.process() is None for each in asked), seconds)

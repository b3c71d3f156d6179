"""A scratch fleet for a benchmark: an embedded stack in a temporary folder, gone at the end."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

import embedfleet as ef
from embedfleet.stack import down


@contextmanager
def scratch_fleet(**settings: Any) -> Iterator[ef.Fleet]:
    folder = Path(tempfile.mkdtemp(prefix="embedfleet-bench-"))
    folder.chmod(0o755)
    data = folder / "data"
    try:
        with ef.connect(data=data, **settings) as fleet:
            yield fleet
    finally:
        down(data)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def workers(fleet: ef.Fleet, count: int, **environment: str) -> Iterator[dict[int, Path]]:
    """Worker processes with one slot each, ready to claim; yields their ids with their logs."""
    command = [sys.executable, "-m", "embedfleet", "worker", "--queue", "cpu", "--concurrency", "1"]
    settings = {"EMBEDFLEET_DATA": str(fleet.settings.data), "EMBEDFLEET_TORCH_THREADS": "1"}
    logs = [fleet.settings.data / "logs" / f"bench-{number}.log" for number in range(count)]
    running = [
        subprocess.Popen(
            command,
            env={**os.environ, **settings, **environment},
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
        )
        for log in logs
    ]
    try:
        yield {each.pid: log for each, log in zip(running, logs, strict=True)}
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(timeout=60)


class Server:
    """The PostgreSQL server of a fleet, for its processor time."""

    def __init__(self, fleet: ef.Fleet) -> None:
        with fleet.db.transaction() as conn:
            backend = psutil.Process(conn.info.backend_pid)
        self._postmaster = backend.parent() or backend

    def processor_s(self) -> float:
        """Seconds so far. What a backend spent that has ended is in the postmaster's account."""
        ended = self._postmaster.cpu_times()
        backends = sum(map(processor_s, [self._postmaster, *self._postmaster.children()]))
        return float(backends + ended.children_user + ended.children_system)


def processor_s(process: psutil.Process) -> float:
    """Seconds of processor time of a process so far; none where it has ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def machine() -> str:
    """One line for the report: what the figures were reached on."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{len(names)} x {names[0] if names else platform.machine()}, {memory:.0f} GiB, "
        f"Python {platform.python_version()}"
    )


def fleet_processor_s(fleet: ef.Fleet) -> float:
    """Of this process, of the workers that it started, and of the servers in the data folder."""
    own = psutil.Process()
    found = {own, *own.children(recursive=True)}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(fleet.settings.data):
                found.add(process)
    return sum(map(processor_s, found))

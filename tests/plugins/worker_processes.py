"""Real processes of the README's command for a worker, with the fake model and short leases."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from embedfleet.fleet import Fleet
from embedfleet_schema import session
from plugins.worker_forks import ForkedCommand

TIMEOUT_S = 180
LEASE_S = 4.0
# What an interpreter reads when it starts, before there is any program.
AT_START = ("LD_PRELOAD", "PYTHON")


class WorkerProcess:
    """A `celery -A embedfleet_workers worker` process; its log is kept for a failing test."""

    def __init__(
        self,
        fleet: Fleet,
        log: Path,
        *,
        queue: str,
        pool: str,
        slots: int,
        variables: Mapping[str, str],
        level: str = "INFO",
        idle_s: float = session.IDLE_S,
        **settings: str,
    ) -> None:
        """`idle_s`: how long the server lets it be frozen in a transaction."""
        given = fleet.settings
        environment = {
            "EMBEDFLEET_DATABASE_URL": given.database,
            "EMBEDFLEET_REDIS_URL": given.redis,
            "EMBEDFLEET_LEASE_SECONDS": str(LEASE_S),
            "EMBEDFLEET_HEARTBEAT_SECONDS": "1",
            "EMBEDFLEET_SWEEP_SECONDS": "1",
            **{f"EMBEDFLEET_{name.upper()}": value for name, value in settings.items()},
        }
        arguments = ["-A", "embedfleet_workers", "worker", "-Q", queue, "-P", pool]
        arguments += ["-c", str(slots), "-l", level]
        environment = {**os.environ, **environment, **variables}
        self.log = log
        # Tests read it from the beginning on.
        log.touch()
        self.process: ForkedCommand | subprocess.Popen[bytes]
        if any(name.startswith(AT_START) for name in variables):
            with log.open("wb") as output:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "celery", *arguments],
                    env=environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        else:
            self.process = ForkedCommand(arguments, environment, log, idle_s)

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill -9 the whole process group: the children of a pool too."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(TIMEOUT_S)

    def end(self) -> int:
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT_S)


@pytest.fixture
def worker_process(fleet: Fleet, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts worker processes; those that still run are stopped at the end."""
    started: list[WorkerProcess] = []

    def start(
        *,
        queue: str = "cpu",
        pool: str = "threads",
        slots: int = 1,
        variables: Mapping[str, str] = MappingProxyType({}),
        idle_s: float = session.IDLE_S,
        **settings: str,
    ) -> WorkerProcess:
        log = tmp_path / f"worker-{len(started)}.log"
        worker = WorkerProcess(
            fleet,
            log,
            queue=queue,
            pool=pool,
            slots=slots,
            variables=variables,
            idle_s=idle_s,
            **settings,
        )
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.end()


def eventually(condition: Callable[[], object], *, timeout_s: float = TIMEOUT_S) -> None:
    """Wait until `condition()` holds; the limit only bounds a test that fails."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {condition}"
        time.sleep(0.05)

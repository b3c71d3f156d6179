"""The folder that the worker processes of a host share: each writes files of its own there, and one
process makes a page of them all.

A process says that it lives by a lock, which the system takes back when it dies, in whatever way.
Then its gauges go, and its counters are added to those of all that are gone: so no sum ever falls.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from embedfleet_schema.errors import WorkerStartFailed

if TYPE_CHECKING:
    from prometheus_client import Metric

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# In the place of a process: all that are gone.
_GONE = "gone"


class MetricsFolder:
    """One for each port, in the folder for temporary files: its host forgets it, as it should.

    Raises:
        WorkerStartFailed: somebody else could write there.
    """

    def __init__(self, port: int) -> None:
        self.path = Path(tempfile.gettempdir()) / f"embedfleet-metrics-{os.getuid()}-{port}"
        self._held: list[int] = []
        self.path.mkdir(mode=0o700, exist_ok=True)
        found = self.path.lstat()
        if (
            not stat.S_ISDIR(found.st_mode)
            or found.st_uid != os.getuid()
            or stat.S_IMODE(found.st_mode) & 0o077
        ):
            raise WorkerStartFailed(reason=f"the folder {self.path} is not this user's alone")

    def choose(self) -> None:
        """Have the metrics of this process, and of its children, written here.

        Prometheus' client reads the variable as it is imported.
        """
        os.environ[VARIABLE] = str(self.path)

    def enter(self) -> None:
        """Say that this process lives. What a former one of its number left is tidied away."""
        self.leave()
        with self._alone():
            self._forget(str(os.getpid()))
            descriptor = os.open(self._lock(os.getpid()), os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._held.append(descriptor)

    def leave(self) -> None:
        """This process writes no more."""
        while self._held:
            os.close(self._held.pop())

    def leads(self) -> int | None:
        """Try to be the process that serves the page: the descriptor that says so, or None."""
        descriptor = os.open(self.path / "serves", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def collect(self) -> Iterator[Metric]:
        """The metrics of all processes, as Prometheus' client asks a collector for them."""
        from prometheus_client import CollectorRegistry
        from prometheus_client.multiprocess import MultiProcessCollector

        with self._alone():
            for lock in self.path.glob("*.lives"):
                if not _is_held(lock):
                    self._forget(lock.stem)
            yield from MultiProcessCollector(CollectorRegistry(), str(self.path)).collect()

    def _forget(self, pid: str) -> None:
        """Keep what a process that is gone has counted, and no more of it.

        If this process dies in between, the one or the other count is there twice.
        """
        from prometheus_client.mmap_dict import MmapedDict

        for kind in ("counter", "histogram"):
            found = self.path / f"{kind}_{pid}.db"
            if not found.exists():
                continue
            kept = MmapedDict(str(self.path / f"{kind}_{_GONE}.db"))
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(found)):
                kept.write_value(key, kept.read_value(key)[0] + value, 0.0)
            kept.close()
            found.unlink()
        for gauges in self.path.glob(f"gauge_*_{pid}.db"):
            gauges.unlink()
        self._lock(pid).unlink(missing_ok=True)

    def _lock(self, pid: int | str) -> Path:
        return self.path / f"{pid}.lives"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time tidies up, or reads."""
        with (self.path / "tidies").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _is_held(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False

"""The seed of a fault test, and what the tables say of work that was repeated or left behind."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

import embedfleet as ef
from embedfleet.fleet import Fleet
from plugins.fleets import ask
from plugins.worker_processes import WorkerProcess, eventually

SEED_VARIABLE = "EMBEDFLEET_FAULT_SEED"
# Tests that run with every change are the same each time; the long forms are new each time.
QUICK_SEED = 20_26


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Decides whom a test harms and when; pytest shows the line below where the test fails."""
    nightly = request.node.get_closest_marker("nightly") is not None
    given = os.environ.get(SEED_VARIABLE)
    found = int(given) if given else random.randrange(10**6) if nightly else QUICK_SEED
    sys.stdout.write(f"repeat this run with {SEED_VARIABLE}={found}\n")
    return found


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Prints the figures that a test reached, for docs/reliability.md (pytest -rP shows them)."""

    def tell(**figures: object) -> None:
        for name, value in figures.items():
            record_property(name, value)
            shown = f"{value:.2f}" if isinstance(value, float) else value
            sys.stdout.write(f"figure: {name} = {shown}\n")

    return tell


def documents(count: int, words: str = "of the job") -> list[ef.Document]:
    return [ef.Document(f"d{n}", f"text number {n} {words}") for n in range(count)]


def leased(fleet: Fleet) -> int:
    return sum(queue.leased for queue in fleet.queues())


def alive(fleet: Fleet) -> set[int]:
    return {worker.pid for worker in fleet.workers()}


def stopped(worker: WorkerProcess) -> bool:
    """Whether the process sits in SIGSTOP."""
    import psutil

    return psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED


def repeated(fleet: Fleet) -> int:
    """Claims beyond one for each batch: what was embedded again, at the most."""
    ((claims, batches),) = ask(
        fleet,
        "SELECT coalesce(sum(attempt), 0), count(*) FROM embedfleet.batch WHERE attempt > 0",
    )
    return int(claims) - int(batches)


@dataclass
class Orphans:
    """Batches whose worker was killed, and how long each waited for its next claim."""

    fleet: Fleet
    waiting: dict[tuple[int, int], float] = field(default_factory=dict)
    waited: list[float] = field(default_factory=list)

    def kill(self, worker: WorkerProcess) -> None:
        """Kill -9, and remember what the process held."""
        worker.process.send_signal(signal.SIGKILL)
        worker.process.wait(30)
        held = ask(
            self.fleet,
            "SELECT b.id, b.attempt FROM embedfleet.batch AS b"
            " JOIN embedfleet.worker AS w ON w.id = b.owner"
            " WHERE b.state = 'leased' AND w.pid = %s",
            worker.pid,
        )
        now = time.monotonic()
        self.waiting.update(((batch, attempt), now) for batch, attempt in held)

    def look(self) -> None:
        """Note which of them were claimed again, or replaced by their halves."""
        if not self.waiting:
            return
        rows = ask(
            self.fleet,
            "SELECT id, attempt, state FROM embedfleet.batch WHERE id = ANY (%s)",
            [batch for batch, _ in self.waiting],
        )
        now = time.monotonic()
        for batch, attempt, state in rows:
            for key in [key for key in self.waiting if key[0] == batch]:
                if attempt > key[1] or state not in ("leased", "pending"):
                    self.waited.append(now - self.waiting.pop(key))

    def watch(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(0.1)

    def settle(self, timeout_s: float = 60) -> None:
        def none_waits() -> bool:
            self.look()
            return not self.waiting

        eventually(none_waits, timeout_s=timeout_s)

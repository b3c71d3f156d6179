"""Workers whose clock is wrong: F12 of docs/reliability.md. Leases live by the database's clock."""

import ast
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from plugins.failpoints import Orphans, alive, documents, leased, repeated
from plugins.faked_clocks import faked_time
from plugins.worker_processes import eventually

ROOT = Path(__file__).parents[2]
HOUR_S = 3600
# How far a clock may be from an hour wrong: a process takes a while to say what time it is.
ABOUT_S = 600
WALL_CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today"}
# What decides over leases and batches; a command may tell a person the time, and so may a trace.
DECIDING = ("schema/embedfleet_schema/store", "workers", "producer")


def python_clock(skew_s: int) -> dict[str, str]:
    """Variables for a process whose `time.time` is wrong, and so all that asks it, like kombu."""
    return {"PYTHONPATH": python_path("skewed_clock"), "SKEW_S": str(skew_s)}


def c_library_clock(skew_s: int) -> dict[str, str]:
    """Variables for a process whose C library is wrong about the time: whatever in it asks."""
    return {"PYTHONPATH": python_path("faked_clock"), **faked_time(skew_s)}


def python_path(folder: str) -> str:
    """With the sitecustomize.py of a folder beside this file."""
    given = os.environ.get("PYTHONPATH")
    return os.pathsep.join(filter(None, (str(Path(__file__).with_name(folder)), given)))


each_clock = pytest.mark.parametrize(
    "clock", [python_clock, pytest.param(c_library_clock, marks=pytest.mark.nightly)]
)


def told_skew_s(worker) -> float:
    """How wrong the clock of a worker is by the first line of its log."""
    told = json.loads(worker.log.read_text().splitlines()[0])["timestamp"]
    return datetime.fromisoformat(told).timestamp() - time.time()


def test_nothing_that_decides_over_a_lease_reads_the_wall_clock():
    readers = {
        str(path.relative_to(ROOT))
        for folder in DECIDING
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "spans.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and f"{node.value.id}.{node.attr}" in WALL_CLOCKS
    }
    assert set() == readers


@pytest.mark.nightly
@pytest.mark.timeout(300)
@each_clock
def test_workers_an_hour_early_and_an_hour_late_reclaim_neither_early_nor_late(
    fleet, worker_process, report, clock
):
    lease_s, heartbeat_s, sweep_s = 6.0, 1.0, 1.0
    docs = fleet.collection("docs", model="fake/16")

    def worker(skew_s: int):
        return worker_process(
            variables=clock(skew_s) if skew_s else {},
            # Longer than a lease: only heartbeats keep it.
            fake_faults="latency=8",
            lease_seconds=str(lease_s),
            heartbeat_seconds=str(heartbeat_s),
        )

    workers = [worker(-HOUR_S), worker(0), worker(HOUR_S)]
    eventually(lambda: len(alive(fleet)) == 3)
    job = docs.enqueue(documents(60))
    eventually(lambda: leased(fleet) == 3)
    orphans = Orphans(fleet)
    orphans.kill(workers[1])
    orphans.settle()
    assert 60 == job.wait(timeout_s=120).embedded
    report(reclaimed_after_s=orphans.waited[0], embedded_again=repeated(fleet))
    assert [1, 1] == [len(orphans.waited), repeated(fleet)]
    assert orphans.waited[0] >= lease_s - heartbeat_s - 1
    # A free slot claims it: the other two are busy for up to a batch.
    assert orphans.waited[0] <= lease_s + 3 * sweep_s + 2 * 8
    expected = [-HOUR_S, 0, HOUR_S]
    assert pytest.approx(expected, abs=ABOUT_S) == [told_skew_s(each) for each in workers]


@each_clock
@pytest.mark.parametrize("skew_s", [-HOUR_S, HOUR_S])
def test_the_skewed_clock_is_skewed_and_waits_are_not(clock, skew_s):
    program = "import time; before = time.monotonic(); time.sleep(0.01); print(time.time(), before)"
    began = time.monotonic()
    told = run([sys.executable, "-c", program], clock(skew_s))
    wall, monotonic = map(float, told.split())
    assert pytest.approx(skew_s, abs=ABOUT_S) == wall - time.time()
    assert began <= monotonic <= time.monotonic()


@pytest.mark.nightly
def test_the_clock_of_the_c_library_is_skewed_for_what_is_not_python():
    told = float(run(["date", "+%s"], c_library_clock(HOUR_S)))
    assert pytest.approx(HOUR_S, abs=ABOUT_S) == told - time.time()


def run(command: list[str], variables: dict[str, str]) -> str:
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout

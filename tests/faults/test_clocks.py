"""Workers whose clock is wrong: F12 of docs/reliability.md. Leases live by the database's clock."""

import ast
import sys
from pathlib import Path

import pytest

from plugins.failpoints import Orphans, alive, documents, leased, repeated
from plugins.worker_processes import eventually

ROOT = Path(__file__).parents[2]
SKEWED = Path(__file__).with_name("skewed_clock")
HOUR_S = 3600
WALL_CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today"}
# What decides over leases and batches; a command may tell a person the time.
DECIDING = ("schema/embedfleet_schema/store", "workers", "producer")


def test_nothing_that_decides_over_a_lease_reads_the_wall_clock():
    readers = {
        str(path.relative_to(ROOT))
        for folder in DECIDING
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and f"{node.value.id}.{node.attr}" in WALL_CLOCKS
    }
    assert set() == readers


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_workers_an_hour_early_and_an_hour_late_reclaim_neither_early_nor_late(
    fleet, worker_process, report
):
    lease_s, heartbeat_s, sweep_s = 6.0, 1.0, 1.0
    docs = fleet.collection("docs", model="fake/16")

    def worker(skew_s: int):
        variables = {"PYTHONPATH": str(SKEWED), "SKEW_S": str(skew_s)}
        return worker_process(
            variables=variables,
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


def test_the_skewed_clock_is_skewed():
    import subprocess
    import time

    command = [sys.executable, "-c", "import time; print(time.time())"]
    environment = {"PYTHONPATH": str(SKEWED), "SKEW_S": str(HOUR_S)}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert float(told.stdout) - time.time() == pytest.approx(HOUR_S, abs=60)

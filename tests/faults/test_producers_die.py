"""Producers that are killed around the commit of a window."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from plugins.failpoints import documents
from plugins.worker_processes import eventually

ENQUEUE = """
import embedfleet as ef
with ef.connect() as fleet:
    docs = fleet.collection("docs")
    docs.enqueue(ef.Document(f"d{n}", f"text number {n} of the job") for n in range(60))
"""


def environment(fleet, **settings: str) -> dict[str, str]:
    """The variables of a process that reaches the test's servers."""
    return {
        **os.environ,
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
        "EMBEDFLEET_BATCH_TOKENS_CPU": "64",
        **{f"EMBEDFLEET_{name.upper()}": value for name, value in settings.items()},
    }


def enqueue_in_another_process(fleet, **settings: str) -> int:
    command = [sys.executable, "-c", ENQUEUE]
    return subprocess.run(command, env=environment(fleet, **settings), check=False).returncode


@pytest.mark.parametrize(
    ("place", "stored"), [("before_merge", 0), ("after_merge_before_ring", 60)]
)
def test_a_producer_that_is_killed_leaves_whole_windows_and_may_start_again(
    fleet, worker_process, place, stored
):
    docs = fleet.collection("docs", model="fake/16")
    died = enqueue_in_another_process(fleet, failpoints=f"{place}=kill:#1")
    assert -signal.SIGKILL == died
    assert stored == docs.audit().waiting
    docs.enqueue(documents(60))
    worker_process()
    again = docs.enqueue(documents(60))
    assert 0 == again.wait(timeout_s=60).failed
    found = docs.audit()
    assert (60, 0, 0) == (found.documents, found.missing, found.extra)


ENQUEUE_WITHOUT_END = """
import sys
import embedfleet as ef
from plugins.chunk_functions import endless
with ef.connect() as fleet:
    documents = [ef.Document(path, path) for path in sys.argv[1:]]
    fleet.collection("docs").enqueue(documents, chunk=endless, processes=2)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_the_processes_that_cut_end_with_their_producer(fleet, tmp_path, end):
    """Also where they are in the middle of something that takes for ever."""
    fleet.collection("docs", model="fake/16")
    begun = [tmp_path / "one", tmp_path / "two"]
    producer = subprocess.Popen(
        [sys.executable, "-c", ENQUEUE_WITHOUT_END, *map(str, begun)],
        env=environment(fleet) | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stderr=subprocess.PIPE,
    )
    with producer:
        try:
            eventually(lambda: all(path.exists() for path in begun))
            cutters = psutil.Process(producer.pid).children()
            producer.send_signal(end)
            _, said = producer.communicate(timeout=60)
        finally:
            producer.kill()
    assert 2 == len(cutters)
    assert (end == signal.SIGINT) == (b"KeyboardInterrupt" in said)
    eventually(lambda: not any(each.is_running() for each in cutters))

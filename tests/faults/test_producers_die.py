"""Producers that are killed around the commit of a window."""

import os
import signal
import subprocess
import sys

import pytest

from plugins.failpoints import documents

ENQUEUE = """
import embedfleet as ef
with ef.connect() as fleet:
    docs = fleet.collection("docs")
    docs.enqueue(ef.Document(f"d{n}", f"text number {n} of the job") for n in range(60))
"""


def enqueue_in_another_process(fleet, **settings: str) -> int:
    environment = {
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
        "EMBEDFLEET_BATCH_TOKENS_CPU": "64",
        **{f"EMBEDFLEET_{name.upper()}": value for name, value in settings.items()},
    }
    command = [sys.executable, "-c", ENQUEUE]
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode


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

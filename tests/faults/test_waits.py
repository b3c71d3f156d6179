"""Embedders that ask to wait, and real workers whose sweep never comes: the end of a wait rings."""

from plugins.failpoints import documents
from plugins.fleets import ask
from plugins.worker_processes import eventually


def test_batches_that_wait_are_taken_up_without_a_sweep_and_without_a_charge(fleet, worker_process):
    docs = fleet.collection("docs", model="fake/16")
    job = docs.enqueue(documents(60))
    worker_process(pool="solo", fake_faults="busy_every=2;busy_seconds=0.3", sweep_seconds="600")
    eventually(lambda: job.status.finished)
    assert ("done", 60, 0) == (job.status.state, job.status.embedded, job.status.failed)
    assert [(0, 0)] == ask(fleet, "SELECT max(errors), max(crashes) FROM embedfleet.batch")
    ((claims, batches),) = ask(fleet, "SELECT sum(attempt), count(*) FROM embedfleet.batch")
    assert claims > batches

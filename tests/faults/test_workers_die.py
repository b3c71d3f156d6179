"""Workers that are killed, stopped or told to leave in the middle of a job."""

import signal

import pytest

import embedfleet as ef
from plugins.failpoints import documents, stopped
from plugins.worker_processes import LEASE_S, eventually


def leased(fleet):
    return sum(queue.leased for queue in fleet.queues())


def assert_all_is_there_once(docs, count):
    found = docs.audit()
    assert (count, count, 0, 0) == (found.texts, found.stored, found.missing, found.extra)
    assert found.waiting_documents == 0


@pytest.mark.parametrize(("pool", "slots"), [("threads", 2), ("prefork", 2)])
def test_a_job_completes_although_one_of_two_workers_is_killed(fleet, worker_process, pool, slots):
    docs = fleet.collection("docs", model="fake/16")
    workers = [worker_process(pool=pool, slots=slots, fake_faults="latency=0.1") for _ in range(2)]
    eventually(lambda: len({worker.pid for worker in fleet.workers()}) >= 2)
    job = docs.enqueue(documents(600))
    eventually(lambda: job.status.embedded > 50 and leased(fleet) > 0)
    workers[0].kill()
    status = job.wait(timeout_s=60)
    assert (600, 0) == (status.embedded, status.failed)
    assert_all_is_there_once(docs, 600)


def test_a_stopped_worker_comes_back_too_late_and_changes_nothing(fleet, worker_process):
    docs = fleet.collection("docs", model="fake/16")
    frozen = worker_process(failpoints="after_embed=stop:#1", idle_s=LEASE_S)
    job = docs.enqueue(documents(60))
    eventually(lambda: stopped(frozen))
    worker_process()
    # It may freeze in its first sweep, too: the others wait until that transaction is ended.
    assert (60, 0) == ((status := job.wait(timeout_s=180)).embedded, status.failed)
    frozen.signal(signal.SIGCONT)
    eventually(lambda: "is no longer leased to this worker" in frozen.log.read_text())
    assert_all_is_there_once(docs, 60)


@pytest.mark.parametrize(("pool", "slots"), [("threads", 2), ("prefork", 2), ("solo", 1)])
def test_a_worker_told_to_leave_finishes_its_batches_and_signs_off(
    fleet, worker_process, pool, slots
):
    docs = fleet.collection("docs", model="fake/16")
    worker = worker_process(pool=pool, slots=slots, fake_faults="latency=0.2")
    eventually(fleet.workers)
    job = docs.enqueue(documents(600))
    eventually(lambda: leased(fleet) > 0)
    worker.signal(signal.SIGTERM)
    worker.process.wait(30)
    assert leased(fleet) == 0
    assert fleet.workers() == []
    status = job.status
    assert 0 < status.embedded < 600
    assert (600, status.failed) == (status.embedded + status.queued, 0)
    assert docs.audit().missing == 0


def test_a_process_that_dies_inside_a_pool_is_replaced_and_its_batch_comes_back(
    fleet, worker_process
):
    docs = fleet.collection("docs", model="fake/16")
    worker_process(
        pool="prefork",
        slots=2,
        fake_faults="kill=BOOM",
        lease_seconds="1.5",
        heartbeat_seconds="0.3",
        sweep_seconds="0.3",
    )
    eventually(fleet.workers)
    job = docs.enqueue([*documents(7), ef.Document("bomb", "BOOM goes this one")])
    status = job.wait(timeout_s=90)
    assert (7, 1) == (status.embedded, status.failed)
    assert [("bomb", "WORKER_CRASH")] == [(each.document, each.code) for each in docs.failures()]

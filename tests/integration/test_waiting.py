"""Waiting for a job that nobody works on, and beside an event loop."""

import asyncio

import pytest

import embedfleet as ef
from embedfleet_schema.errors import NoWorker, WaitTimeout, WorkersElsewhere
from plugins.fleets import ask, documents, drain
from plugins.worker_processes import eventually


def test_a_job_that_nobody_can_embed_is_not_waited_for_in_vain(docs):
    job = docs.enqueue(documents(3))
    with pytest.raises(NoWorker, match="embedfleet worker --queue cpu") as raised:
        job.wait(no_worker_s=0.3)
    assert "0 of 3 texts" in str(raised.value)
    with pytest.raises(NoWorker):
        asyncio.run(job.wait_async(no_worker_s=0.3))


def test_a_job_is_waited_for_while_a_worker_of_its_queue_lives(fleet, docs, worker):
    job = docs.enqueue(documents(3))
    worker()
    eventually(lambda: bool(fleet.workers()))
    with pytest.raises(WaitTimeout):
        job.wait(no_worker_s=0.2, timeout_s=1.5)
    ask(fleet, "UPDATE embedfleet.worker SET queues = '{api}'")
    with pytest.raises(NoWorker):
        job.wait(no_worker_s=0.2, timeout_s=30)


def test_a_paused_job_waits_for_a_person_and_not_for_workers(docs):
    job = docs.enqueue(documents(3))
    job.pause()
    with pytest.raises(WaitTimeout):
        job.wait(no_worker_s=0.2, timeout_s=1.0)


def test_whoever_wants_to_waits_for_ever(docs):
    with pytest.raises(WaitTimeout):
        docs.enqueue(documents(3)).wait(no_worker_s=None, timeout_s=0.5)


def test_a_job_without_work_needs_no_worker(docs, worker):
    docs.enqueue(documents(3))
    drain(worker())
    assert "done" == docs.enqueue(documents(3)).wait(no_worker_s=0).state
    assert "done" == docs.enqueue([]).wait(no_worker_s=0).state


def test_the_command_that_waits_says_how_to_start_a_worker(command, monkeypatch, folder, handbook):
    monkeypatch.setattr("embedfleet.job.NO_WORKER_S", 0.3)
    monkeypatch.setitem(ef.Job.wait.__wrapped__.__kwdefaults__, "no_worker_s", 0.3)
    got = command("enqueue", handbook, folder, "--wait")
    assert 1 == got.code
    assert "Start one with: embedfleet worker --queue cpu" in got.err


def test_an_event_loop_goes_on_while_it_waits_and_searches(docs, worker):
    async def caller():
        job = await docs.aenqueue(documents(5))
        waiting = asyncio.create_task(job.wait_async(timeout_s=30))
        while not waiting.done():
            await asyncio.to_thread(drain, runtime)
        hits = await docs.asearch("text number 3", k=2, where={})
        return await waiting, hits

    runtime = worker()
    status, hits = asyncio.run(caller())
    assert ("done", 5, 2) == (status.state, status.embedded, len(hits))
    assert docs.search("text number 3", k=2) == hits


def test_workers_are_not_started_beside_a_database_of_ones_own(migrated_url, redis_url):
    with pytest.raises(WorkersElsewhere, match="embedfleet worker --queue cpu"):
        ef.connect(migrated_url, redis_url, workers=2)


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert version("embedfleet") == ef.__version__

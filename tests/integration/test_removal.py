"""Nothing accumulates: finished batches are folded into their job, ended jobs go after weeks."""

import pytest

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.errors import UnknownJob
from embedfleet_schema.store import counters, plans, retention
from embedfleet_schema.store.retention import remove_jobs, remove_provider_batches
from embedfleet_schema.store.sweep import sweep
from embedfleet_workers import sweeper
from plugins.fleets import ask, batches_of
from plugins.pauses import commit, documents
from plugins.worker_processes import eventually

AGE = (
    "UPDATE embedfleet.batch SET finished_at = finished_at - interval '61 minutes',"
    " leased_at = leased_at - interval '61 minutes'"
)
STATES = "SELECT state, count(*)::int FROM embedfleet.batch GROUP BY state"


@pytest.fixture
def mixed(fleet: Fleet, docs: ef.Collection):
    """A job with batches that are done, dead, split and open."""
    job = docs.enqueue(documents(60))
    store = batches_of(fleet)
    commit(store, store.claim("cpu"))
    commit(store, store.claim("cpu"))
    store.split(store.claim("cpu"), reason="halve")
    store.fail(store.claim("cpu"), code="INPUT_REJECTED", reason="no")
    return job


def ended(fleet: Fleet, docs: ef.Collection) -> ef.Job:
    job = docs.enqueue([ef.Document("a", "some words")])
    store = batches_of(fleet)
    commit(store, store.claim("cpu"))
    return job


def long_ago(fleet: Fleet, job: ef.Job, days: int) -> None:
    for column in ("created_at", "loaded_at", "interrupted_at", "cancelled_at", "loading_until"):
        ask(
            fleet,
            f"UPDATE embedfleet.job SET {column} = {column} - make_interval(days => %s)"
            " WHERE id = %s",
            days,
            job.id,
        )
    sweep(fleet.db)
    ask(
        fleet,
        "UPDATE embedfleet.job_counter SET finished_at = finished_at - make_interval(days => %s)"
        " WHERE job_id = %s",
        days,
        job.id,
    )
    ask(
        fleet,
        "UPDATE embedfleet.batch SET finished_at = finished_at - make_interval(days => %s)"
        " WHERE job_id = %s",
        days,
        job.id,
    )


def test_batches_that_finished_an_hour_ago_go_and_their_job_says_the_same(fleet, docs, mixed):
    before = mixed.status
    sweep(fleet.db)
    assert {"done", "dead", "split", "pending"} == dict(ask(fleet, STATES)).keys()
    ask(fleet, AGE)
    sweep(fleet.db)
    assert ["pending"] == [state for state, _ in ask(fleet, STATES)]
    after = mixed.status
    assert (before.queued, before.embedded, before.failed, before.total) == (
        after.queued,
        after.embedded,
        after.failed,
        after.total,
    )
    assert before.embedded > 0 < before.failed
    assert 0 == counters.miscounted(fleet.db, docs.info)


def test_batches_that_finished_just_now_stay(fleet, docs, mixed):
    before = ask(fleet, STATES)
    sweep(fleet.db)
    assert sorted(before) == sorted(ask(fleet, STATES))


def test_a_plan_knows_how_fast_a_job_was_whose_batches_are_gone(fleet, docs, mixed):
    ask(fleet, "UPDATE embedfleet.batch SET leased_at = finished_at - interval '2 s'")
    ask(fleet, "UPDATE embedfleet.batch SET owner = NULL")
    speed = plans.speed(fleet.db, docs.info.space)
    assert speed is not None
    ask(fleet, AGE)
    sweep(fleet.db)
    assert speed == plans.speed(fleet.db, docs.info.space)


def test_batches_of_a_provider_batch_that_has_not_ended_stay(fleet, docs, mixed):
    ((filed,),) = ask(
        fleet,
        "INSERT INTO embedfleet.provider_batch (space_id, state) VALUES (%s, 'filed') RETURNING id",
        docs.info.space_id,
    )
    ask(fleet, AGE)
    ask(fleet, "UPDATE embedfleet.batch SET provider_batch_id = %s WHERE state = 'done'", filed)
    sweep(fleet.db)
    assert {"done", "pending"} == dict(ask(fleet, STATES)).keys()
    ask(fleet, "UPDATE embedfleet.provider_batch SET state = 'done'")
    sweep(fleet.db)
    assert {"pending"} == dict(ask(fleet, STATES)).keys()


def test_a_job_that_ended_long_ago_goes_and_says_so(fleet, docs, command):
    job = ended(fleet, docs)
    long_ago(fleet, job, 31)
    assert 0 == remove_jobs(fleet.db, days=0)
    assert 1 == remove_jobs(fleet.db, days=30)
    with pytest.raises(UnknownJob, match="EMBEDFLEET_JOB_RETENTION_DAYS"):
        _ = job.status
    assert 2 == command("status", str(job.id)).code
    assert ["a"] == [hit.document for hit in docs.search([1.0] + [0.0] * 15, k=1)]
    assert docs.audit().clean


def test_a_job_that_ended_lately_or_has_something_open_stays(fleet, docs, mixed):
    long_ago(fleet, mixed, 31)
    assert 0 == remove_jobs(fleet.db, days=30)
    mixed.cancel()
    assert 0 == remove_jobs(fleet.db, days=30)
    long_ago(fleet, mixed, 29)
    assert 0 == remove_jobs(fleet.db, days=30)
    long_ago(fleet, mixed, 2)
    assert 1 == remove_jobs(fleet.db, days=30)


def test_documents_of_a_job_that_is_gone_can_still_be_deleted_by_it(fleet, docs):
    job = ended(fleet, docs)
    other = fleet.collection("other", model="fake/16")
    long_ago(fleet, job, 31)
    remove_jobs(fleet.db, days=30)
    with pytest.raises(UnknownJob):
        other.delete_matching(job_id=job.id)
    assert 1 == docs.delete_matching(job_id=job.id)
    with pytest.raises(UnknownJob):
        docs.delete_matching(job_id=job.id)


def put_provider_batches(fleet: Fleet, docs: ef.Collection, *ended: tuple[str, int | None]) -> None:
    """By state, and by how many days ago each ended."""
    for state, days in ended:
        ask(
            fleet,
            "INSERT INTO embedfleet.provider_batch (space_id, state, created_at, finished_at)"
            " VALUES (%s, %s, now() - interval '60 days', now() - make_interval(days => %s))",
            *(docs.info.space_id, state, days),
        )


def provider_batches_of(fleet: Fleet) -> list[int]:
    return [each for (each,) in ask(fleet, "SELECT id FROM embedfleet.provider_batch ORDER BY 1")]


def test_provider_batches_that_ended_long_ago_go(fleet, docs, monkeypatch):
    monkeypatch.setattr(retention, "PAGE", 2)
    old = [("done", 31), ("failed", 31), ("done", 40)]
    put_provider_batches(fleet, docs, ("filed", None), *old, ("filing", None), ("done", 29), *old)
    assert 0 == remove_provider_batches(fleet.db, days=0)
    assert 6 == remove_provider_batches(fleet.db, days=30)
    assert [1, 5, 6] == provider_batches_of(fleet)
    assert 0 == remove_provider_batches(fleet.db, days=30)


def test_a_provider_batch_that_a_batch_still_names_stays_with_it(fleet, docs):
    docs.enqueue(documents(1))
    put_provider_batches(fleet, docs, ("failed", 31), ("done", 31))
    ask(fleet, "UPDATE embedfleet.batch SET provider_batch_id = 1")
    assert 1 == remove_provider_batches(fleet.db, days=30)
    assert [1] == provider_batches_of(fleet)
    docs.drop()
    assert 1 == remove_provider_batches(fleet.db, days=30)


def test_the_sweeper_of_a_worker_removes_what_ended_long_ago(fleet, docs, monkeypatch):
    monkeypatch.setattr(sweeper, "TIDY_S", 0.0)
    long_ago(fleet, ended(fleet, docs), 31)
    put_provider_batches(fleet, docs, ("done", 31), ("done", 1))
    sweeping = sweeper.Sweeper(fleet.db, fleet.doorbell, every_s=60, retention_days=30)
    sweeping.start()
    try:
        eventually(lambda: ([], [2]) == (fleet.jobs(), provider_batches_of(fleet)))
    finally:
        sweeping.stop()

"""Each step of a batch is taken, and no other one; and where a job lets its batches stand."""

from itertools import product

from embedfleet_schema.store import (
    jobs,
    provider_batch_answers,
    provider_batches,
    requeue,
    spaces,
)
from embedfleet_schema.store.provider_batch_answers import Failed
from plugins.batch_steps import DECLARED, watched
from plugins.fleets import ask, batches_of
from plugins.pauses import commit, documents, stop

STOPS = {
    "pending": lambda job: None,
    "held": lambda job: job.pause(),
    "cancelled": lambda job: job.cancel(),
}


def leave(fleet, docs):
    """Each way out of a lease, where the job stands as it may."""
    store = batches_of(fleet)
    ways = {
        "commit": lambda lease: commit(store, lease),
        "defer": lambda lease: store.defer(lease, delay_s=3600.0, reason="r"),
        "split": lambda lease: store.split(lease, reason="r"),
        "fail": lambda lease: store.fail(lease, code="c", reason="r"),
    }
    for stand, halt in STOPS.items():
        for way, take in ways.items():
            job = docs.enqueue(documents(3, f"{stand}{way}"))
            lease = store.claim("cpu")
            halt(job)
            take(lease)
            job.cancel()


def enqueue_for_cancelled(fleet, docs):
    with fleet.db.transaction() as conn:
        job_id = jobs.create(conn, docs.info, "enqueue")
        conn.execute("UPDATE embedfleet.job SET cancelled_at = now() WHERE id = %s", [job_id])
        requeue.put_batches(conn, docs.info, job_id, [(1, 5)], batch_tokens=64)


def refuse_one_in_a_file(fleet, docs):
    docs.enqueue(documents(3, "filed"))
    ask(fleet, "UPDATE embedfleet.batch SET delivery = 'provider_batch' WHERE state = 'pending'")
    taken = provider_batches.take(fleet.db, docs.info.space_id, "fake/16", price=None)
    (lease,) = provider_batch_answers.leases(fleet.db, taken.id)
    refused = {lease.text_ids[0]: Failed("INPUT_REJECTED", "?")}
    assert provider_batch_answers.settle(fleet.db, lease, refused, "r")


def test_all_steps_are_taken_and_no_other(fleet, docs):
    steps = watched(fleet)
    leave(fleet, docs)
    enqueue_for_cancelled(fleet, docs)
    refuse_one_in_a_file(fleet, docs)
    stop(fleet)
    docs.enqueue(documents(3, "held")).cancel()
    docs.enqueue(documents(3, "resumed"))
    spaces.resume(fleet.db, "fake/16")
    assert DECLARED == steps()


def test_what_is_paused_or_cancelled_is_not_open(fleet, docs):
    job = docs.enqueue(documents(1))
    mark = "SET {} = CASE WHEN %s THEN now() END"
    for cancelled, paused, space_paused in product([False, True], repeat=3):
        ask(fleet, "UPDATE embedfleet.job " + mark.format("cancelled_at"), cancelled)
        ask(fleet, "UPDATE embedfleet.job " + mark.format("paused_at"), paused)
        ask(fleet, "UPDATE embedfleet.space " + mark.format("paused_at"), space_paused)
        held = "held" if paused or space_paused else "pending"
        state = "cancelled" if cancelled else held
        expected = (job.id, docs.info.id, docs.info.space_id, state, state == "pending", False)
        found = "SELECT job_id, collection_id, space_id, state, open, has_budget"
        assert [expected] == ask(fleet, f"{found} FROM embedfleet.batch_standing")

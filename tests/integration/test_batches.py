"""The batch state machine against a real PostgreSQL: claim, heartbeat, and every way out."""

import numpy as np
import pytest

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.errors import LeaseLost
from embedfleet_schema.store import jobs
from embedfleet_schema.store.batches import Lease
from embedfleet_schema.store.sweep import sweep
from embedfleet_workers.embedders.fake import FakeEmbedder
from plugins.fleets import batches_of, drain, queue_again
from plugins.pauses import documents


def rows(fleet: Fleet, statement: str, *values):
    with fleet.db.transaction() as conn:
        return conn.execute(statement, values).fetchall()


def states(fleet):
    found = rows(fleet, "SELECT state, count(*) FROM embedfleet.batch GROUP BY state")
    return dict(found)


def expire(fleet, lease: Lease):
    rows_ = "UPDATE embedfleet.batch SET lease_until = now() - interval '1 s' WHERE id = %s"
    with fleet.db.transaction() as conn:
        conn.execute(rows_, (lease.id,))


def vectors_for(lease: Lease):
    return FakeEmbedder(lease.collection.space).embed(lease.texts, "document")


def test_a_claimed_batch_carries_the_texts_that_lack_a_vector(fleet, docs):
    docs.enqueue(documents(3))
    lease = batches_of(fleet).claim("cpu")
    assert sorted(d.text for d in documents(3)) == sorted(lease.texts)
    assert 1 == lease.attempt


def test_two_workers_never_hold_the_same_batch(fleet, docs):
    docs.enqueue(documents(60))
    store = batches_of(fleet)
    claimed = []
    while lease := store.claim("cpu"):
        claimed.append(lease.id)
    assert len(claimed) > 2
    assert sorted(set(claimed)) == sorted(claimed)


def test_nothing_is_claimed_from_another_queue(fleet, docs):
    docs.enqueue(documents(3))
    assert batches_of(fleet).claim("api") is None


def test_a_commit_makes_the_documents_searchable(fleet, docs):
    docs.enqueue(documents(3))
    store = batches_of(fleet)
    lease = store.claim("cpu")
    store.commit(lease, vectors_for(lease))
    assert {"done": 1} == states(fleet)
    assert 3 == len(rows(fleet, "SELECT id FROM embedfleet.docs"))


def test_a_late_commit_is_refused_and_changes_nothing(fleet, docs):
    docs.enqueue(documents(3))
    first, second = batches_of(fleet), batches_of(fleet)
    late = first.claim("cpu")
    expire(fleet, late)
    sweep(fleet.db)
    lease = second.claim("cpu")
    assert late.id == lease.id
    with pytest.raises(LeaseLost):
        first.commit(late, vectors_for(late))
    assert [] == rows(fleet, "SELECT id FROM embedfleet.docs")
    second.commit(lease, vectors_for(lease))
    assert 3 == len(rows(fleet, "SELECT id FROM embedfleet.docs"))


@pytest.mark.parametrize("leave", ["defer", "retry", "split", "fail"])
def test_no_way_out_of_a_lost_lease_writes_anything(fleet, docs, leave):
    docs.enqueue(documents(3))
    store = batches_of(fleet)
    late = store.claim("cpu")
    expire(fleet, late)
    sweep(fleet.db)
    details = {
        "defer": {"delay_s": 0, "reason": "r"},
        "retry": {"delay_s": 0, "reason": "r"},
        "split": {"reason": "r"},
        "fail": {"code": "C", "reason": "r"},
    }[leave]
    with pytest.raises(LeaseLost):
        getattr(store, leave)(late, **details)
    assert {"pending": 1} == states(fleet)
    assert [] == docs.failures()


def test_a_deferred_batch_waits_and_is_not_charged(fleet, docs):
    docs.enqueue(documents(3))
    store = batches_of(fleet)
    store.defer(store.claim("cpu"), delay_s=3600, reason="provider asks to wait")
    assert store.claim("cpu") is None
    assert [(0,)] == rows(fleet, "SELECT errors FROM embedfleet.batch")
    assert "provider asks to wait" == jobs.status(fleet.db, 1).reason


def test_a_retried_batch_is_charged_one_error(fleet, docs):
    docs.enqueue(documents(3))
    store = batches_of(fleet)
    store.retry(store.claim("cpu"), delay_s=0, reason="boom")
    again = store.claim("cpu")
    assert (2, 1) == (again.attempt, again.errors)


def test_a_split_batch_becomes_two_halves_of_all_its_texts(fleet, docs):
    docs.enqueue(documents(5))
    store = batches_of(fleet)
    lease = store.claim("cpu")
    store.split(lease, reason="input at fault")
    assert [("input at fault",)] == rows(
        fleet, "SELECT DISTINCT reason FROM embedfleet.batch WHERE state = 'pending'"
    )
    halves = [store.claim("cpu"), store.claim("cpu")]
    assert [2, 3] == sorted(len(half.texts) for half in halves)
    assert sorted(lease.texts) == sorted(halves[0].texts + halves[1].texts)
    assert {"split": 1, "leased": 2} == states(fleet)


def test_a_failed_text_has_a_failure_and_its_document_is_live(fleet, docs):
    docs.enqueue(documents(1))
    store = batches_of(fleet)
    store.fail(store.claim("cpu"), code="INPUT_REJECTED", reason="no")
    (failure,) = docs.failures()
    assert ("d0", 0, "INPUT_REJECTED") == (failure.document, failure.position, failure.code)
    assert [(1,)] == rows(fleet, "SELECT live_version FROM embedfleet._documents_1")
    assert 1 == fleet.job(1).status.failed


def test_a_heartbeat_keeps_a_lease_and_tells_a_lost_one(fleet, docs):
    docs.enqueue(documents(60))
    store = batches_of(fleet)
    kept, lost = store.claim("cpu"), store.claim("cpu")
    expire(fleet, lost)
    sweep(fleet.db)
    with fleet.db.transaction() as conn:
        pairs = [(kept.id, kept.attempt), (lost.id, lost.attempt)]
        assert {kept.id} == store.heartbeat(pairs, conn)


def test_a_batch_whose_worker_dies_twice_is_split(fleet, docs):
    docs.enqueue(documents(4))
    store = batches_of(fleet)
    for _ in range(2):
        expire(fleet, store.claim("cpu"))
        sweep(fleet.db)
    assert {"split": 1, "pending": 2} == states(fleet)


def test_a_single_text_that_kills_two_workers_is_given_up(fleet, docs):
    docs.enqueue(documents(1))
    store = batches_of(fleet)
    for _ in range(2):
        expire(fleet, store.claim("cpu"))
        sweep(fleet.db)
    assert ["WORKER_CRASH"] == [failure.code for failure in docs.failures()]
    assert {"dead": 1} == states(fleet)


def test_a_document_of_two_batches_goes_live_with_the_second(fleet, docs):
    docs.enqueue([ef.Document("two", chunks=["a " * 40, "b " * 40])])
    store = batches_of(fleet)
    first, second = store.claim("cpu"), store.claim("cpu")
    store.commit(first, vectors_for(first))
    assert [] == rows(fleet, "SELECT id FROM embedfleet.docs")
    store.commit(second, vectors_for(second))
    assert 2 == len(rows(fleet, "SELECT id FROM embedfleet.docs"))


def test_a_changed_document_serves_its_old_version_until_the_new_one_is_whole(fleet, docs, worker):
    runtime = worker()
    docs.enqueue([ef.Document("k", chunks=["old one", "shared"])])
    drain(runtime)
    docs.enqueue([ef.Document("k", chunks=["new one " * 30, "shared", "new two " * 30])])
    content = "SELECT content FROM embedfleet.docs ORDER BY position"
    assert [("old one",), ("shared",)] == rows(fleet, content)
    store = batches_of(fleet)
    lease = store.claim("cpu")
    store.commit(lease, vectors_for(lease))
    assert [("old one",), ("shared",)] == rows(fleet, content)
    drain(runtime)
    new = [("new one " * 30).strip(), "shared", ("new two " * 30).strip()]
    assert new == [text.strip() for (text,) in rows(fleet, content)]
    audit = docs.audit()
    assert (3, 3, 0, 0) == (audit.chunks, audit.stored, audit.missing, audit.extra)


def test_deleting_a_document_removes_its_rows_and_spares_what_others_use(fleet, docs, worker):
    docs.enqueue([ef.Document("a", chunks=["mine", "ours"]), ef.Document("b", chunks=["ours"])])
    drain(worker())
    assert ["a"] == docs.delete(["a", "unknown"])
    assert [("ours",)] == rows(fleet, "SELECT content FROM embedfleet.docs")
    assert 1 == docs.counts().vectors


def test_a_document_deleted_while_it_is_embedded_leaves_no_vector(fleet, docs):
    docs.enqueue(documents(2))
    store = batches_of(fleet)
    lease = store.claim("cpu")
    docs.delete(["d0"])
    store.commit(lease, vectors_for(lease))
    audit = docs.audit()
    assert (1, 1, 0, 0) == (audit.chunks, audit.stored, audit.missing, audit.extra)


def test_a_ring_is_answered_with_all_that_a_while_allows(fleet, docs, worker, monkeypatch):
    monkeypatch.setattr("embedfleet_workers.runtime.STRETCH_S", 600.0)
    docs.enqueue(documents(60))
    runtime = worker()
    assert "idle" == runtime.answer("cpu")
    assert (60, 60) == (docs.audit().chunks, docs.audit().stored)


@pytest.mark.parametrize(("stretch_s", "leaving"), [(0.0, False), (600.0, True)])
def test_a_ring_is_answered_with_one_batch_at_least_and_a_last_one_at_most(
    fleet, docs, worker, monkeypatch, stretch_s, leaving
):
    monkeypatch.setattr("embedfleet_workers.runtime.STRETCH_S", stretch_s)
    docs.enqueue(documents(60))
    runtime = worker()
    if leaving:
        runtime.leave()
    assert "done" == runtime.answer("cpu")
    assert 1 == states(fleet)["done"] < sum(states(fleet).values())


def test_texts_that_got_a_vector_elsewhere_are_not_embedded_again(fleet, docs, worker):
    docs.enqueue(documents(3))
    again = fleet.job(queue_again(fleet, docs))
    runtime = worker()
    assert "done" == runtime.run_one("cpu")
    lease = batches_of(fleet).claim("cpu")
    assert [] == lease.texts
    batches_of(fleet).commit(lease, np.empty((0, 16), dtype=np.float32))
    assert "done" == again.status.state


def test_a_batch_waits_while_another_embeds_its_texts(fleet, docs):
    docs.enqueue(documents(3))
    queue_again(fleet, docs)
    first, second = batches_of(fleet), batches_of(fleet)
    lease = first.claim("cpu")
    assert second.claim("cpu") is None
    assert {"leased": 1, "pending": 1} == states(fleet)
    first.commit(lease, vectors_for(lease))
    with fleet.db.transaction() as conn:
        conn.execute("UPDATE embedfleet.batch SET run_after = now() WHERE state = 'pending'")
    assert [] == second.claim("cpu").texts


def test_paused_batches_are_not_claimed_and_a_lease_comes_back_held(fleet, docs):
    job = docs.enqueue(documents(60))
    store = batches_of(fleet)
    lease = store.claim("cpu")
    job.pause()
    assert store.claim("cpu") is None
    store.defer(lease, delay_s=0, reason="shutdown")
    assert {"held": len(rows(fleet, "SELECT id FROM embedfleet.batch"))} == states(fleet)
    assert "paused" == job.status.state
    job.resume()
    assert store.claim("cpu") is not None


def test_a_cancelled_job_is_finished_and_enqueueing_again_takes_up_the_rest(fleet, docs, worker):
    job = docs.enqueue(documents(60))
    worker().run_one("cpu")
    job.cancel()
    assert job.wait(timeout_s=1).state == "cancelled"
    stored = docs.audit().stored
    assert 0 < stored < 60
    assert 60 - stored == docs.audit().missing
    again = docs.enqueue(documents(60))
    drain(worker())
    assert again.status.state == "done"
    assert 60 - stored == again.status.embedded
    assert 0 == docs.audit().missing


def test_cancelling_a_finished_job_changes_nothing(fleet, docs, worker):
    job = docs.enqueue(documents(3))
    drain(worker())
    for change in (job.pause, job.resume, job.cancel):
        change()
        assert "done" == job.status.state
    assert [(None, None)] == rows(fleet, "SELECT paused_at, cancelled_at FROM embedfleet.job")


def test_a_job_that_is_done_is_resumed_although_its_budget_is_spent(fleet, docs, worker):
    job = docs.enqueue(documents(3))
    drain(worker())
    rows_ = "UPDATE embedfleet.job SET budget_usd = 1, unsettled_usd = 1 RETURNING id"
    assert [(job.id,)] == rows(fleet, rows_)
    job.resume()
    assert "done" == job.status.state


def test_an_audit_finds_what_is_missing_and_extra_and_repairs_it(fleet, docs, worker):
    docs.enqueue(documents(5))
    drain(worker())
    table = f"embedfleet.{docs.info.vectors}"
    with fleet.db.transaction() as conn:
        two = f"SELECT text_id FROM {table} LIMIT 2"
        conn.execute(f"DELETE FROM {table} WHERE text_id IN ({two})")
        one = f"SELECT 0, embedding FROM {table} LIMIT 1"
        conn.execute(f"INSERT INTO {table} {one}")
    found = docs.audit(repair=True)
    assert (2, 1) == (found.missing, found.extra)
    drain(worker())
    assert fleet.job(found.job_id).status.state == "done"
    assert docs.audit().clean
    assert 5 == docs.audit().stored


def test_retry_tries_failed_texts_again(fleet, docs, worker):
    docs.enqueue([ef.Document("bad", "XYZZY"), ef.Document("good", "fine")])
    poisoned = worker(fake_faults="poison=XYZZY")
    drain(poisoned)
    assert ["INPUT_REJECTED"] == [failure.code for failure in docs.failures()]
    job = docs.retry()
    drain(worker())
    assert job.status.state == "done"
    assert [] == docs.failures()
    assert 2 == len(rows(fleet, "SELECT id FROM embedfleet.docs"))

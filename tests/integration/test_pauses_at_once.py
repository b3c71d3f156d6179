"""Pauses, resumptions and cancellations beside workers, producers, sweeps and each other."""

import threading

import psycopg
import pytest

from embedfleet_schema.statements import load
from embedfleet_schema.store import (
    claims,
    jobs,
    locks,
    provider_batches,
    reconciliation,
    requeue,
    spaces,
    transitions,
)
from embedfleet_schema.store.jobs import Tally
from embedfleet_schema.store.settlement import settling
from embedfleet_schema.store.sweep import sweep
from plugins.fleets import ask, batches_of
from plugins.pauses import (
    beside,
    commit,
    documents,
    end,
    states,
    stop,
    until_somebody_waits,
)
from plugins.query_plans import most_read

TRANSITIONS = load("transitions")


def pause(fleet, job):
    job.pause()


def pause_space(fleet, job):
    stop(fleet)


def cancel(fleet, job):
    job.cancel()


def resume(fleet, job):
    job.resume()


def resume_space(fleet, job):
    spaces.resume(fleet.db, "fake/16")


HALTS = [(pause, "held"), (pause_space, "held"), (cancel, "cancelled")]
RESUMPTIONS = [(pause, resume), (pause_space, resume_space)]


@pytest.mark.parametrize(("halt", "state"), HALTS)
def test_who_is_just_taking_a_batch_is_not_waited_for(fleet, docs, halt, state):
    """Of two that wait for batches in different orders, each would wait for the other."""
    job = docs.enqueue(documents(60))
    with fleet.db.transaction() as taking:
        (taken,) = taking.execute("SELECT id FROM embedfleet.batch LIMIT 1 FOR UPDATE").fetchone()
        end(beside(lambda: halt(fleet, job)))
        others = "SELECT DISTINCT state FROM embedfleet.batch WHERE id <> %s"
        assert [(state,)] == ask(fleet, others, taken)
    sweep(fleet.db)
    assert [state] == states(fleet, job)


@pytest.mark.parametrize(("halt", "state"), HALTS)
def test_what_is_on_its_way_out_is_waited_for(fleet, docs, halt, state):
    job = docs.enqueue(documents(60))
    lease = batches_of(fleet).claim("cpu")
    with settling(fleet.db, lease) as batch:
        halting = beside(lambda: halt(fleet, job))
        until_somebody_waits(fleet)
        batch.release(reason="r")
    end(halting)
    assert [state] == states(fleet, job)


@pytest.mark.parametrize(("halt", "state"), HALTS)
def test_a_busy_fleet_keeps_nobody_waiting_for_good(fleet, docs, halt, state):
    """Row locks would: whoever shares one gets it at once, ahead of those who want it alone."""
    job = docs.enqueue(documents(60))

    def come_later():
        with fleet.db.transaction() as conn:
            conn.execute("SET LOCAL lock_timeout = '100ms'")
            locks.share(conn, docs.info.id)

    with fleet.db.transaction() as leaving:
        locks.share(leaving, docs.info.id)
        halting = beside(lambda: halt(fleet, job))
        until_somebody_waits(fleet)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            come_later()
    end(halting)
    assert [state] == states(fleet, job)


def test_a_producer_goes_on_while_its_job_is_worked_on(fleet, docs):
    """Or a commit would wait for a document that the producer holds, and he for the commit."""
    job = docs.enqueue(documents(3))
    lease = batches_of(fleet).claim("cpu")
    with fleet.db.transaction() as leaving:
        locks.share(leaving, docs.info.id)
        leaving.execute(TRANSITIONS["fence"], {"id": lease.id, "attempt": lease.attempt})
        with fleet.db.transaction() as producing:
            producing.execute("SET LOCAL lock_timeout = '5s'")
            jobs.count(producing, job.id, Tally(documents=1))
    assert 4 == job.status.documents


def test_a_pause_waits_for_an_enqueue_and_holds_its_batches(fleet, docs):
    docs.enqueue(documents(3))
    with fleet.db.transaction() as conn:
        locks.share(conn, docs.info.id)
        job_id = jobs.create(conn, docs.info, "enqueue")
        requeue.put_batches(conn, docs.info, job_id, [(1, 5)], batch_tokens=64)
        pausing = beside(lambda: stop(fleet))
        until_somebody_waits(fleet)
    end(pausing)
    assert ["held"] == states(fleet, fleet.job(job_id))


def test_an_enqueue_waits_for_a_pause_and_is_held(fleet, docs):
    docs.enqueue(documents(3))
    made = []
    with fleet.db.transaction() as conn:
        locks.own_spaces(conn, [docs.info.space_id])
        spaces.pause(conn, docs.info.space_id, "c", "r")
        enqueueing = beside(lambda: made.append(docs.enqueue(documents(3, "late"))))
        until_somebody_waits(fleet)
    end(enqueueing)
    assert ["held"] == states(fleet, made[0])


def test_a_sweep_beside_a_resumption_holds_nothing_for_good(fleet, docs, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_S", 60.0)
    job = docs.enqueue(documents(60))
    stop(fleet)
    ask(fleet, "UPDATE embedfleet.batch SET state = 'pending'")
    with fleet.db.transaction() as conn:
        locks.own_spaces(conn, [docs.info.space_id])
        conn.execute("UPDATE embedfleet.space SET paused_at = NULL")
        sweeping = beside(lambda: sweep(fleet.db))
        until_somebody_waits(fleet)
    end(sweeping)
    assert ["pending"] == states(fleet, job)


def test_a_collection_that_is_made_beside_a_pause_belongs_to_it(fleet, docs):
    docs.enqueue(documents(3))
    made = []

    def make():
        made.append(fleet.collection("more", model="fake/16").enqueue(documents(3)))

    with fleet.db.transaction() as conn:
        locks.own_spaces(conn, [docs.info.space_id])
        making = beside(make)
        until_somebody_waits(fleet)
        spaces.pause(conn, docs.info.space_id, "c", "r")
    end(making)
    assert ["held"] == states(fleet, made[0])


def test_of_a_model_that_is_paused_another_is_worked_on(fleet, docs):
    """A space is one lock: that of another has nothing to do with it."""
    with fleet.db.transaction() as conn:
        locks.own_spaces(conn, [docs.info.space_id])
        other = fleet.collection("other", model="fake/8").enqueue(documents(3))
        commit(store := batches_of(fleet), store.claim("cpu"))
    assert 3 == other.status.documents


def test_a_provider_batch_that_is_given_back_waits_for_a_pause_of_a_job(fleet, docs):
    """Its batches are of any number of collections: it owns the space, which who pauses shares."""
    job = docs.enqueue(documents(60))
    ask(fleet, "UPDATE embedfleet.batch SET delivery = 'provider_batch'")
    taken = provider_batches.take(fleet.db, docs.info.space_id, "fake/16", price=1.0)
    given = []
    with fleet.db.transaction() as conn:
        locks.own_job(conn, job.id)
        giving = beside(
            lambda: given.append(
                provider_batches.give_up(fleet.db, taken, code="expired", reason="?")
            )
        )
        until_somebody_waits(fleet)
        conn.execute("UPDATE embedfleet.job SET paused_at = now()")
    end(giving)
    assert ["held"] == states(fleet, job)


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("UPDATE embedfleet.job SET paused_at = now()", "held"),
        ("UPDATE embedfleet.job SET cancelled_at = now()", "cancelled"),
        ("UPDATE embedfleet.space SET paused_at = now(), pause_code = 'c'", "held"),
    ],
)
def test_a_pause_that_has_not_come_to_the_batches_yet_is_seen_by_who_claims(
    fleet, docs, statement, state
):
    """A million of them take their time."""
    job = docs.enqueue(documents(60))
    ask(fleet, statement)
    assert batches_of(fleet).claim("cpu") is None
    assert [state] == states(fleet, job)


@pytest.mark.parametrize(("halt", "state"), HALTS)
def test_the_batches_follow_in_pages(fleet, docs, monkeypatch, halt, state):
    monkeypatch.setattr(reconciliation, "PAGE", 2)
    monkeypatch.setattr(reconciliation, "BLOCK", 3)
    job = docs.enqueue(documents(60))
    halt(fleet, job)
    assert [state] == states(fleet, job)


@pytest.mark.parametrize(("halt", "state"), HALTS)
def test_all_batches_follow_although_one_is_being_taken(fleet, docs, monkeypatch, halt, state):
    monkeypatch.setattr(reconciliation, "BLOCK", 3)
    job = docs.enqueue(documents(60))
    with fleet.db.transaction() as taking:
        (taken,) = taking.execute("SELECT id FROM embedfleet.batch LIMIT 1 FOR UPDATE").fetchone()
        halt(fleet, job)
        others = "SELECT DISTINCT state FROM embedfleet.batch WHERE id <> %s"
        assert [(state,)] == ask(fleet, others, taken)


@pytest.mark.parametrize(("halt", "go_on"), RESUMPTIONS)
def test_the_batches_go_on_in_pages_too(fleet, docs, monkeypatch, halt, go_on):
    monkeypatch.setattr(reconciliation, "PAGE", 2)
    monkeypatch.setattr(reconciliation, "BLOCK", 3)
    job = docs.enqueue(documents(60))
    halt(fleet, job)
    go_on(fleet, job)
    assert ["pending"] == states(fleet, job)


@pytest.mark.parametrize(("halt", "go_on"), RESUMPTIONS)
def test_others_commit_while_many_batches_go_on(fleet, docs, monkeypatch, halt, go_on):
    """Between two pages nobody owns the collection."""
    monkeypatch.setattr(reconciliation, "PAGE", 2)
    job = docs.enqueue(documents(60))
    halt(fleet, job)
    follow, seen = transitions.align, []

    def align(conn, ids):
        with fleet.db.transaction() as committing:
            committing.execute("SET LOCAL lock_timeout = '5s'")
            locks.share(committing, docs.info.id)
        seen.append(ids)
        return follow(conn, ids)

    monkeypatch.setattr(transitions, "align", align)
    go_on(fleet, job)
    assert (["pending"], 1 < len(seen)) == (states(fleet, job), True)


@pytest.mark.parametrize(("halt", "go_on"), RESUMPTIONS)
def test_the_next_sweep_takes_on_what_a_resumption_left(fleet, docs, monkeypatch, halt, go_on):
    job = docs.enqueue(documents(60))
    halt(fleet, job)
    with monkeypatch.context() as dying:
        dying.setattr(reconciliation, "reconcile", lambda _db: None)
        go_on(fleet, job)
    assert ["held"] == states(fleet, job)
    sweep(fleet.db)
    assert ["pending"] == states(fleet, job)


def test_what_goes_on_waits_for_nothing_else_and_stands_behind_what_came_meanwhile(fleet, docs):
    job = docs.enqueue(documents(60))
    ask(fleet, "UPDATE embedfleet.batch SET run_after = now() + interval '1 h' WHERE id > 1")
    job.pause()
    meanwhile = docs.enqueue(documents(1, "meanwhile"))
    job.resume()
    claimed = []
    while lease := batches_of(fleet).claim("cpu"):
        claimed.append((lease.job_id, lease.id))
    assert meanwhile.id == claimed[0][0]
    assert [job.id] * len(claimed[1:]) == [each for each, _ in claimed[1:]]
    assert sorted(claimed[1:]) == claimed[1:]


def test_a_pause_holds_although_its_batches_cannot_follow(fleet, docs, monkeypatch, caplog):
    def fail(_db):
        raise psycopg.OperationalError("away")

    job = docs.enqueue(documents(60))
    with monkeypatch.context() as away:
        away.setattr(reconciliation, "reconcile_some", fail)
        job.pause()
    assert "moved by the next sweep (OperationalError)" in caplog.text
    assert ("paused", ["pending"]) == (job.status.state, states(fleet, job))
    sweep(fleet.db)
    assert ["held"] == states(fleet, job)


def test_what_waits_of_a_cancelled_job_is_missing_at_once(fleet, docs):
    """Or a repair would leave it out, just before it is cancelled."""
    job = docs.enqueue(documents(3))
    ask(fleet, "UPDATE embedfleet.job SET cancelled_at = now()")
    assert (0, 3) == (docs.audit().waiting, docs.audit().missing)
    assert 3 == fleet.job(docs.audit(repair=True).job_id).status.queued
    sweep(fleet.db)
    assert ["cancelled"] == states(fleet, job)
    assert (3, 0) == (docs.audit().waiting, docs.audit().missing)


def test_who_claims_looks_at_each_batch_once(fleet, docs, monkeypatch):
    """One that is put back for a moment may be due again while it looks at the others."""
    monkeypatch.setattr(claims, "OVERLAP_S", 1e-6)
    for _ in range(2):
        docs.enqueue(documents(1))
    assert batches_of(fleet).claim("cpu") is not None
    assert batches_of(fleet).claim("cpu") is None


def test_the_sweep_cancels_what_was_locked_when_its_paused_job_was_cancelled(fleet, docs):
    job = docs.enqueue(documents(60))
    job.pause()
    with fleet.db.transaction() as looking:
        looking.execute("SELECT id FROM embedfleet.batch LIMIT 2 FOR UPDATE")
        job.cancel()
        assert ["cancelled", "held"] == states(fleet, job)
    sweep(fleet.db)
    assert ["cancelled"] == states(fleet, job)


def test_a_sweep_leaves_what_others_lock_for_long_to_the_next_one(fleet, docs, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_S", 0.1)
    job = docs.enqueue(documents(60))
    lost = batches_of(fleet).claim("cpu")
    stop(fleet)
    ask(fleet, "UPDATE embedfleet.batch SET state = 'pending' WHERE state = 'held'")
    past = "UPDATE embedfleet.batch SET lease_until = now() - interval '1 s' WHERE id = %s"
    ask(fleet, past, lost.id)
    with fleet.db.transaction() as removing:
        locks.own(removing, docs.info.id)
        assert sweep(fleet.db) is not None
        assert ["leased", "pending"] == states(fleet, job)
    assert 1 == sweep(fleet.db).reclaimed
    assert ["held"] == states(fleet, job)


def test_a_collection_that_is_owned_for_long_keeps_no_other_from_being_swept(
    fleet, docs, monkeypatch
):
    monkeypatch.setattr(locks, "PATIENCE_S", 0.1)
    others = fleet.collection("others", model="fake/8")
    docs.enqueue(documents(60))
    job = others.enqueue(documents(5, "o"))
    store = batches_of(fleet)
    while store.claim("cpu") is not None:
        pass
    ask(fleet, "UPDATE embedfleet.batch SET lease_until = now() - interval '1 s'")
    with fleet.db.transaction() as removing:
        locks.own(removing, docs.info.id)
        assert 1 == sweep(fleet.db).reclaimed
        assert ["pending"] == states(fleet, job)


def test_what_is_stopped_is_found_without_reading_the_backlog(fleet, docs):
    """Every sweep looks for it."""
    stopped, busy = docs.enqueue(documents(1)), docs.enqueue(documents(1, "o"))
    held = docs.enqueue(documents(1, "h"))
    held.pause()
    for job, state in ((stopped, "done"), (busy, "pending"), (held, "held")):
        ask(
            fleet,
            "INSERT INTO embedfleet.batch (job_id, collection_id, space_id, queue, state, chunks,"
            " tokens, texts) SELECT %s, %s, %s, 'cpu', %s, 1, 5, ARRAY[n]"
            " FROM generate_series(1, 20000) AS n",
            *(job.id, docs.info.id, docs.info.space_id, state),
        )
    ask(fleet, "ANALYZE embedfleet.batch")
    stopped.cancel()
    ask(fleet, "ANALYZE embedfleet.job")
    statement = load("reconciliation")["to_align"].as_string().replace("%(limit)s", "$1")
    with fleet.db.transaction() as conn:
        conn.execute("PREPARE looking (bigint) AS " + statement)
        for mode in ("force_custom_plan", "force_generic_plan"):
            conn.execute(f"SET plan_cache_mode = {mode}")
            explain = "EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE looking (50000)"
            assert 10 > most_read(conn.execute(explain).fetchall())


def test_a_slow_commit_silences_no_other_lease(fleet, docs):
    docs.enqueue(documents(60))
    store = batches_of(fleet)
    slow, other = store.claim("cpu"), store.claim("cpu")
    ends = "SELECT lease_until FROM embedfleet.batch WHERE id = %s"
    before = ask(fleet, ends, other.id)
    with fleet.db.transaction() as leaving:
        leaving.execute(TRANSITIONS["fence"], {"id": slow.id, "attempt": slow.attempt})
        with fleet.db.transaction() as beating:
            beating.execute("SET LOCAL lock_timeout = '5s'")
            leases = [(slow.id, slow.attempt), (other.id, other.attempt)]
            assert {slow.id, other.id} == store.heartbeat(leases, beating)
    assert before < ask(fleet, ends, other.id)


def test_a_collection_is_dropped_when_those_are_through_who_commit_to_it(fleet, docs):
    """They hold batches and want documents, which a drop takes the other way round."""
    docs.enqueue(documents(3))
    with fleet.db.transaction() as committing:
        locks.share(committing, docs.info.id)
        dropping = beside(docs.drop)
        until_somebody_waits(fleet)
        committing.execute("SELECT FROM embedfleet._documents_1 FOR UPDATE")
    end(dropping)
    assert [] == fleet.collections()


def test_commits_and_pauses_of_four_workers_do_not_block_each_other_for_good(fleet, docs):
    job = docs.enqueue(documents(60))
    stores = [batches_of(fleet) for _ in range(4)]
    leases = [store.claim("cpu") for store in stores]
    start = threading.Barrier(4)

    def refuse(store, lease):
        start.wait(60)
        store.pause_space(lease, code="c", reason="r")

    def finish(store, lease):
        start.wait(60)
        commit(store, lease)

    first, second, third, fourth = zip(stores, leases, strict=True)
    end(
        beside(lambda: refuse(*first)),
        beside(lambda: finish(*second)),
        beside(lambda: refuse(*third)),
        beside(lambda: finish(*fourth)),
    )
    assert ["done", "held"] == states(fleet, job)
    done = "SELECT count(*) FROM embedfleet.batch WHERE state = 'done'"
    assert [(2,)] == ask(fleet, done)


def test_jobs_and_their_space_are_paused_and_resumed_at_once_beside_a_worker(fleet, docs):
    made = [docs.enqueue(documents(40, f"j{n}x")) for n in range(3)]
    ended = threading.Event()

    def toggle_job(job):
        for _ in range(15):
            job.pause()
            job.resume()

    def toggle_space():
        for _ in range(15):
            stop(fleet)
            spaces.resume(fleet.db, "fake/16")

    def work():
        store = batches_of(fleet)
        while not ended.is_set():
            if (lease := store.claim("cpu")) is not None:
                store.defer(lease, delay_s=0, reason="r")

    working = beside(work)
    try:
        end(
            beside(lambda: toggle_job(made[0])),
            beside(lambda: toggle_job(made[1])),
            beside(toggle_space),
        )
    finally:
        ended.set()
    end(working)
    sweep(fleet.db)
    assert {"pending"} == {state for job in made for state in states(fleet, job)}

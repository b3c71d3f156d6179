"""What waits is queued once: a job waits for the batches of others, and gets them if those stop."""

import threading
from concurrent.futures import ThreadPoolExecutor

import embedfleet as ef
from embedfleet_schema.store import provider_batches, reconciliation
from embedfleet_schema.store.registry import Registry
from embedfleet_schema.store.texts import still_without
from plugins.fleets import ask, batches_of, documents, drain
from plugins.pauses import stop

TEXTS = documents(6)


def batches(fleet):
    """The open batches by their jobs."""
    return ask(
        fleet,
        "SELECT job_id, state, chunks FROM embedfleet.batch"
        " WHERE state IN ('pending', 'held', 'leased') ORDER BY id",
    )


def test_the_same_input_is_queued_once_however_often_it_comes(fleet, docs, worker):
    first = docs.enqueue(TEXTS)
    again = [docs.enqueue(TEXTS) for _ in range(3)]
    assert [(first.id, "pending", 6)] == batches(fleet)
    assert [(0, 6)] * 3 == [(job.enqueued.batches, job.enqueued.awaited) for job in again]
    assert ["running"] * 3 == [job.status.state for job in again]
    drain(worker())
    assert ["done"] * 4 == [job.status.state for job in (first, *again)]
    assert 6 == len(docs.search("text", k=10))


def test_other_documents_with_a_text_that_waits_go_live_with_it(fleet, docs, worker):
    docs.enqueue(TEXTS)
    copies = [ef.Document(f"copy of {each.key}", each.text) for each in TEXTS]
    job = docs.enqueue(copies)
    assert (6, 0, 6) == (job.status.awaited, job.status.embedded, job.status.queued)
    drain(worker())
    assert (6, 6, 0) == (job.status.awaited, job.status.embedded, job.status.queued)
    assert 12 == len(docs.search("text", k=20))


def test_a_job_that_waits_gets_the_batches_of_one_that_is_cancelled(fleet, docs, worker):
    first = docs.enqueue(TEXTS)
    second = docs.enqueue(TEXTS)
    first.cancel()
    assert [(second.id, "pending", 6)] == batches(fleet)
    drain(worker())
    assert ["cancelled", "done"] == [first.status.state, second.status.state]
    assert (6, 6) == (second.status.embedded, second.status.total)
    assert 6 == len(docs.search("text", k=10))


def test_a_job_that_waits_gets_the_batches_of_one_that_is_paused_which_waits_then(
    fleet, docs, worker
):
    first = docs.enqueue(TEXTS)
    second = docs.enqueue(TEXTS)
    first.pause()
    assert [(second.id, "pending", 6)] == batches(fleet)
    assert "paused" == first.status.state
    assert [(6, 0), (6, 0)] == [(job.status.total, job.status.embedded) for job in (first, second)]
    drain(worker())
    assert ["done", "done"] == [first.status.state, second.status.state]
    assert [(6, 6), (6, 6)] == [(job.status.total, job.status.embedded) for job in (first, second)]


def test_batches_of_a_paused_job_go_on_for_one_that_comes_later(fleet, docs, worker):
    first = docs.enqueue(TEXTS)
    first.pause()
    assert [(first.id, "held", 6)] == batches(fleet)
    second = docs.enqueue(TEXTS)
    assert [(second.id, "pending", 6)] == batches(fleet)
    drain(worker())
    assert "done" == second.status.state


def test_what_is_held_goes_on_when_a_job_that_waits_for_it_is_resumed(fleet, docs, worker):
    first = docs.enqueue(TEXTS)
    second = docs.enqueue(TEXTS)
    second.pause()
    first.pause()
    assert [(first.id, "held", 6)] == batches(fleet)
    second.resume()
    assert [(second.id, "pending", 6)] == batches(fleet)
    drain(worker())
    assert ["done", "done"] == [first.status.state, second.status.state]


def test_what_is_held_with_its_space_is_not_queued_again_and_embedded_once(fleet, docs, worker):
    first = docs.enqueue(TEXTS)
    stop(fleet)
    second = docs.enqueue(TEXTS)
    assert [(first.id, "held", 6)] == batches(fleet)
    assert (0, 6) == (second.enqueued.batches, second.enqueued.awaited)
    assert ["paused"] * 2 == [first.status.state, second.status.state]
    assert fleet.resume("fake/16")
    assert [(first.id, "pending", 6)] == batches(fleet)
    assert ["done"] == drain(worker())
    assert ["done"] * 2 == [first.status.state, second.status.state]


def test_nobody_cancels_what_a_paused_job_waits_for(fleet, docs, worker):
    first = docs.enqueue(TEXTS)
    second = docs.enqueue(TEXTS)
    second.pause()
    first.cancel()
    assert [(second.id, "held", 6)] == batches(fleet)
    second.resume()
    drain(worker())
    assert "done" == second.status.state


def test_a_leased_batch_goes_on_for_who_waits_when_its_job_is_cancelled(fleet, docs):
    first = docs.enqueue(TEXTS)
    taken = batches_of(fleet)
    lease = taken.claim("cpu")
    second = docs.enqueue(TEXTS)
    first.cancel()
    taken.defer(lease, delay_s=0.0, reason="not now")
    assert [(second.id, "pending", 6)] == batches(fleet)


def test_who_waits_for_a_batch_waits_for_both_halves_of_it(fleet, docs, worker):
    first = docs.enqueue(TEXTS)
    second = docs.enqueue(TEXTS)
    taken = batches_of(fleet)
    taken.split(taken.claim("cpu"), reason="too large")
    first.cancel()
    assert [(second.id, "pending", 3)] * 2 == batches(fleet)
    assert "running" == second.status.state
    drain(worker())
    assert "done" == second.status.state
    assert 6 == len(docs.search("text", k=10))


def test_a_job_that_fails_leaves_nobody_waiting(fleet, docs):
    first = docs.enqueue(TEXTS)
    second = docs.enqueue(TEXTS)
    taken = batches_of(fleet)
    taken.fail(taken.claim("cpu"), code="TEST", reason="no good")
    assert ["done", "done"] == [first.status.state, second.status.state]
    assert [] == ask(fleet, "SELECT * FROM embedfleet.awaited_batch")


def test_what_was_cancelled_is_queued_again(fleet, docs, worker):
    docs.enqueue(TEXTS).cancel()
    again = docs.enqueue(TEXTS)
    assert (1, 0) == (again.enqueued.batches, again.enqueued.awaited)
    drain(worker())
    assert docs.audit().clean
    assert "done" == again.status.state


def test_the_sweep_hands_over_what_a_pause_left_behind(fleet, docs, worker):
    first = docs.enqueue(TEXTS)
    second = docs.enqueue(TEXTS)
    # The process died after it had said so.
    ask(fleet, "UPDATE embedfleet.job SET cancelled_at = now() WHERE id = %s", first.id)
    reconciliation.reconcile(fleet.db)
    assert [(second.id, "pending", 6)] == batches(fleet)
    drain(worker())
    assert "done" == second.status.state


def test_a_text_twice_in_windows_of_one_job_is_queued_once(migrated_url, redis_url):
    with ef.connect(migrated_url, redis_url, window_documents=1) as fleet:
        docs = fleet.collection("docs", model="fake/16")
        done = docs.enqueue([ef.Document("a", "same"), ef.Document("b", "same")]).enqueued
        assert (1, 0) == (done.batches, done.awaited)


def test_explain_names_the_batch_that_a_document_waits_for(fleet, docs):
    first = docs.enqueue(TEXTS)
    docs.enqueue([ef.Document("copy", TEXTS[0].text)])
    explanation = docs.explain("copy")
    assert [first.id] == [batch.job_id for batch in explanation.batches]
    assert 0 == explanation.uncovered


def test_a_job_that_waits_for_another_says_so(fleet, docs):
    first = docs.enqueue(TEXTS)
    second = docs.enqueue(TEXTS)
    assert f"its texts wait in batches of job {first.id}" == second.status.reason


def test_texts_that_several_producers_bring_at_once_are_queued_once(fleet, docs, worker):
    def bring(name):
        copies = [ef.Document(f"{name}{n}", f"text number {n}") for n in range(300)]
        if name == "c":
            copies.reverse()
        return docs.enqueue(copies)

    with ThreadPoolExecutor(4) as pool:
        jobs = list(pool.map(bring, "abcd"))
    assert [(300,)] == ask(fleet, "SELECT sum(chunks) FROM embedfleet.batch")
    assert 900 == sum(job.enqueued.awaited for job in jobs)
    drain(worker())
    assert {"done"} == {job.status.state for job in jobs}
    assert 1_200 == docs.counts().live_documents


def test_documents_that_come_while_their_texts_are_committed_go_live(fleet, docs, worker):
    """Whether a commit comes before them or after, one of the two sees the other."""
    stopping = threading.Event()
    runtime = worker()

    def work():
        while not stopping.is_set():
            runtime.run_one("cpu")

    with ThreadPoolExecutor(4) as pool:
        working = pool.submit(work)
        bringing = [
            pool.submit(docs.enqueue, [ef.Document(f"{name} {turn} {n}", f"text {turn} {n}")])
            for turn in range(40)
            for n in range(2)
            for name in "abc"
        ]
        jobs = [each.result() for each in bringing]
        stopping.set()
        working.result()
    drain(runtime)
    assert {"done"} == {job.status.state for job in jobs}
    assert (240, 240) == ((counts := docs.counts()).documents, counts.live_documents)
    assert docs.audit().clean


def test_a_leased_batch_stays_with_its_job_until_it_leaves_its_lease(fleet, docs):
    first = docs.enqueue(TEXTS)
    taken = batches_of(fleet)
    lease = taken.claim("cpu")
    first.pause()
    second = docs.enqueue(TEXTS)
    assert [(first.id, "leased", 6)] == batches(fleet)
    taken.retry(lease, delay_s=0.0, reason="not now")
    assert [(second.id, "pending", 6)] == batches(fleet)


def wanted(fleet):
    return {each.id: each.wanted for each in provider_batches.unfinished(fleet.db)}


def test_a_provider_batch_that_another_job_waits_for_is_wanted(fleet, docs):
    first = docs.enqueue(TEXTS)
    ask(fleet, "UPDATE embedfleet.batch SET delivery = 'provider_batch'")
    taken = provider_batches.take(fleet.db, docs.info.space_id, "fake/16", price=None)
    second = docs.enqueue(TEXTS)
    ask(fleet, "UPDATE embedfleet.job SET delivery = 'provider_batch'")
    third = docs.enqueue(TEXTS) if second.enqueued.awaited else second
    ask(
        fleet,
        "INSERT INTO embedfleet.awaited_batch SELECT id, %s, %s, 6 FROM embedfleet.batch"
        " WHERE state = 'leased' ON CONFLICT DO NOTHING",
        third.id,
        first.id,
    )
    ask(fleet, "UPDATE embedfleet.job SET cancelled_at = now() WHERE id = %s", first.id)
    assert {taken.id: 1} == wanted(fleet)
    third.cancel()
    ask(fleet, "UPDATE embedfleet.job SET cancelled_at = now()")
    assert {taken.id: 0} == wanted(fleet)


def test_what_was_queued_since_it_was_found_missing_is_not_queued_again(fleet, docs):
    docs.enqueue(TEXTS)
    found = ask(fleet, "SELECT id, tokens FROM embedfleet._texts_1")
    with fleet.db.transaction() as conn:
        assert [] == still_without(conn, docs.info, found)
    ask(fleet, "UPDATE embedfleet.batch SET state = 'cancelled'")
    with fleet.db.transaction() as conn:
        assert sorted(found) == sorted(still_without(conn, docs.info, found))


def test_a_producer_that_waits_for_a_batch_does_not_silence_its_heartbeat(fleet, docs):
    docs.enqueue(TEXTS)
    taken = batches_of(fleet, lease_seconds=3_600.0)
    lease = taken.claim("cpu")
    ask(fleet, "UPDATE embedfleet.batch SET lease_until = now()")
    with fleet.db.transaction() as producer, fleet.db.transaction() as worker:
        assert {lease.id} == Registry(producer, docs.info, "direct")._hold({lease.id})
        assert {lease.id} == taken.heartbeat([(lease.id, lease.attempt)], worker)
    extended = "SELECT lease_until > now() + interval '30 minutes' FROM embedfleet.batch"
    assert [(True,)] == ask(fleet, extended)

"""Failures that are tried again: they stand until there is a vector or a new verdict."""

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

import embedfleet as ef
from embedfleet_schema.store.batches import Batches
from plugins.fleets import ask, drain

REFUSED = ("INPUT_REJECTED", "the model refuses it")


@pytest.fixture
def store(fleet):
    return Batches(fleet.db, owner=uuid4(), lease_seconds=60)


def fail_all(store, code=REFUSED[0], reason=REFUSED[1]):
    while lease := store.claim("cpu"):
        store.fail(lease, code=code, reason=reason)


@pytest.fixture
def failed(docs, store):
    """The documents a and b, each with one text that failed."""
    docs.enqueue([ef.Document("a", "text of a"), ef.Document("b", "text of b")])
    fail_all(store)
    assert {"a": REFUSED, "b": REFUSED} == verdicts(docs)
    return docs


def verdicts(docs):
    return {each.document: (each.code, each.reason) for each in docs.failures()}


def standing(docs):
    found = docs.audit()
    return found.stored, found.waiting, found.failed, found.missing


def test_a_cancelled_retry_leaves_its_texts_failed_as_they_were(failed):
    former = failed.failures()
    failed.retry().cancel()
    assert former == failed.failures()
    assert (0, 0, 2, 0) == standing(failed)


def test_a_retry_that_is_cancelled_while_a_worker_has_it_leaves_its_texts_failed(failed, store):
    job = failed.retry()
    lease = store.claim("cpu")
    job.cancel()
    store.defer(lease, delay_s=0, reason="told to stop")
    assert "cancelled" == job.status.state
    assert {"a": REFUSED, "b": REFUSED} == verdicts(failed)
    assert (0, 0, 2, 0) == standing(failed)


def test_a_cancelled_retry_gives_back_only_what_still_lacks_a_vector_and_has_a_chunk(
    failed, worker
):
    job = failed.retry()
    job.pause()
    failed.delete(["a"])
    failed.enqueue([ef.Document("c", "text of b")])
    drain(worker())
    job.cancel()
    assert {} == verdicts(failed)
    assert (1, 0, 0, 0) == standing(failed)


def test_a_cancelled_retry_can_be_tried_again(failed, worker):
    failed.retry().cancel()
    assert 2 == failed.retry().status.queued
    drain(worker())
    assert (2, 0, 0, 0) == standing(failed)
    assert {} == verdicts(failed)


def test_texts_that_are_tried_again_wait_and_are_listed_until_they_succeed(failed, worker):
    failed.retry()
    assert (0, 2, 0, 0) == standing(failed)
    assert {"a": REFUSED, "b": REFUSED} == verdicts(failed)
    drain(worker())
    assert {} == verdicts(failed)


def test_a_retry_that_fails_again_leaves_the_new_verdict(failed, store):
    job = failed.retry()
    fail_all(store, "OUT_OF_MEMORY", "too long for this machine")
    verdict = ("OUT_OF_MEMORY", "too long for this machine")
    assert {"a": verdict, "b": verdict} == verdicts(failed)
    assert 2 == len(job.failures)


def test_a_second_retry_takes_only_texts_that_no_open_batch_holds(failed, store):
    first = failed.retry()
    first.pause()
    assert failed.retry() is None
    failed.enqueue([ef.Document("c", "text of c")])
    fail_all(store)
    assert 1 == failed.retry().status.queued
    assert failed.retry() is None


def test_retries_at_once_queue_each_text_once(fleet, failed):
    barrier = threading.Barrier(4)

    def retry(_):
        barrier.wait()
        return failed.retry()

    with ThreadPoolExecutor(4) as pool:
        started = [job for job in pool.map(retry, range(4)) if job is not None]
    assert 1 == len(started)
    assert [(2,)] == ask(fleet, "SELECT sum(chunks) FROM embedfleet.batch WHERE state = 'pending'")


def test_an_enqueue_that_is_cancelled_leaves_the_failures_of_other_documents(failed, store):
    former = verdicts(failed)
    failed.enqueue([ef.Document("c", "text of a")]).cancel()
    assert former == {key: verdict for key, verdict in verdicts(failed).items() if key != "c"}
    assert (0, 0, 2, 0) == standing(failed)
    assert 2 == failed.retry().status.queued


def test_a_retry_and_an_enqueue_of_one_text_that_are_both_cancelled_leave_it_failed(failed):
    retry = failed.retry()
    enqueued = failed.enqueue([ef.Document("c", "text of a")])
    retry.cancel()
    enqueued.cancel()
    assert (0, 0, 2, 0) == standing(failed)


def test_what_a_job_stores_after_its_cancellation_goes_live_with_the_failures_that_stand(
    failed, fleet
):
    with ef.connect(
        fleet.settings.database_url, fleet.settings.redis_url, window_documents=1
    ) as own:
        later = [ef.Document("c", "text of c"), ef.Document("d", "text of a")]
        own.collection("docs").enqueue(later, on_window=lambda done: own.job(done.job_id).cancel())
    live = "SELECT key, live_version FROM embedfleet._documents_1 WHERE key > 'b' ORDER BY key"
    assert [("c", None), ("d", 1)] == ask(fleet, live)


def test_a_document_waits_for_a_failed_text_that_is_tried_anew(fleet, failed, store, worker):
    failed.enqueue([ef.Document("c", "text of a")])
    live = "SELECT live_version FROM embedfleet._documents_1 WHERE key = 'c'"
    assert [(None,)] == ask(fleet, live)
    fail_all(store)
    assert [(1,)] == ask(fleet, live)
    assert (0, 0, 2, 0) == standing(failed)

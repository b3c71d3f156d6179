"""Jobs whose documents are deleted before their end: what is embedded is what got a vector."""

import numpy as np
import pytest

import embedfleet as ef
from embedfleet_schema.store.provider_batch_answers import Failed, settle
from embedfleet_workers.embedders.fake import FakeEmbedder
from plugins.fleets import ask, batches_of, drain, queue_again

FIVE = [f"d{n}" for n in range(5)]


@pytest.fixture
def job(docs):
    """Five texts in one batch."""
    return docs.enqueue(ef.Document(key, f"text {key}") for key in FIVE)


def vectors_for(lease):
    if not lease.texts:
        return np.empty((0, 16), dtype=np.float32)
    return FakeEmbedder(lease.collection.space).embed(lease.texts, "document")


def row_of(lease, key):
    return lease.texts.index(f"text {key}")


def store_some(batches, lease, keys):
    rows = [row_of(lease, key) for key in keys]
    batches.store(lease, rows, vectors_for(lease)[rows])


def counts(job):
    status = job.status
    return status.state, status.queued, status.embedded, status.failed


def test_what_is_deleted_while_the_job_is_paused_is_not_embedded(docs, job, worker):
    job.pause()
    docs.delete(FIVE[:3])
    job.resume()
    drain(worker())
    assert ("done", 0, 2, 0) == counts(job)
    assert (2, 2) == (docs.counts().vectors, job.status.total)


def test_a_job_of_which_nothing_is_left_ends(docs, job, worker):
    job.pause()
    docs.delete(FIVE)
    job.resume()
    drain(worker())
    assert ("done", 0, 0, 0) == counts(job)


def test_what_is_deleted_under_a_lease_is_not_embedded(fleet, docs, job):
    batches = batches_of(fleet)
    lease = batches.claim("cpu")
    docs.delete(FIVE[:2])
    batches.commit(lease, vectors_for(lease))
    assert ("done", 0, 3, 0) == counts(job)


def test_a_part_whose_text_was_deleted_counts_the_others(fleet, docs, job):
    batches = batches_of(fleet)
    lease = batches.claim("cpu")
    docs.delete(FIVE[:1])
    store_some(batches, lease, FIVE[:2])
    assert 1 == job.status.embedded
    batches.commit(lease, vectors_for(lease))
    assert ("done", 0, 4, 0) == counts(job)


def test_what_was_embedded_counts_although_it_is_deleted_later(fleet, docs, job):
    batches = batches_of(fleet)
    lease = batches.claim("cpu")
    store_some(batches, lease, FIVE[:2])
    docs.delete([FIVE[0], FIVE[4]])
    rest = lease.only([row_of(lease, key) for key in FIVE[2:]])
    batches.commit(rest, vectors_for(rest))
    assert ("done", 0, 4, 0) == counts(job)


def test_what_another_batch_embedded_meanwhile_counts(fleet, docs, job):
    batches = batches_of(fleet)
    job.pause()
    queue_again(fleet, docs, "text d0")
    lease = batches.claim("cpu")
    batches.commit(lease, vectors_for(lease))
    docs.delete(FIVE[3:])
    job.resume()
    lease = batches.claim("cpu")
    batches.commit(lease, vectors_for(lease))
    assert ("done", 0, 3, 0) == counts(job)


def test_a_split_passes_on_what_was_deleted_to_nobodys_account(fleet, docs, job):
    batches = batches_of(fleet)
    lease = batches.claim("cpu")
    store_some(batches, lease, FIVE[:1])
    docs.delete(FIVE[1:3])
    batches.split(lease, reason="at fault")
    while lease := batches.claim("cpu"):
        batches.commit(lease, vectors_for(lease))
    assert ("done", 0, 3, 0) == counts(job)


def test_of_a_batch_that_is_given_up_the_deleted_texts_neither_failed_nor_were_embedded(
    fleet, docs, job
):
    batches = batches_of(fleet)
    lease = batches.claim("cpu")
    store_some(batches, lease, FIVE[:1])
    docs.delete(FIVE[1:3])
    batches.fail(lease, code="INPUT_REJECTED", reason="refused")
    assert ("done", 0, 1, 2) == counts(job)
    assert 2 == len(docs.failures())


def test_of_a_batch_that_was_filed_the_deleted_texts_are_in_no_count(fleet, docs, job):
    batches = batches_of(fleet)
    lease = batches.claim("cpu")
    store_some(batches, lease, FIVE[:1])
    docs.delete(FIVE[1:3])
    refused = {lease.text_ids[row_of(lease, key)]: Failed("BAD", "refused") for key in FIVE[1:4]}
    assert settle(fleet.db, lease, refused, "not answered")
    lease = batches.claim("cpu")
    batches.commit(lease, vectors_for(lease))
    assert ("done", 0, 2, 1) == counts(job)


def test_a_cancelled_job_counts_what_was_stored_of_it(fleet, docs, job):
    batches = batches_of(fleet)
    lease = batches.claim("cpu")
    docs.delete(FIVE[:1])
    store_some(batches, lease, FIVE[:3])
    job.cancel()
    batches.defer(lease, delay_s=0.0, reason="stopped")
    assert ("cancelled", 0, 2, 0) == counts(job)
    assert [("cancelled",)] == ask(fleet, "SELECT state FROM embedfleet.batch")

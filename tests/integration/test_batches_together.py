"""A worker that embeds faster than it claims takes several batches of a job at once."""

from dataclasses import replace

import pytest

from embedfleet_schema.store import counters
from embedfleet_schema.store.claims import OVERLAP_REASON
from embedfleet_schema.store.sweep import sweep
from embedfleet_workers.embedders.fake import fake_vectors
from embedfleet_workers.embedding_errors import InputAtFault
from plugins.fleets import ask, batches_of, queue_again
from plugins.pauses import commit, documents
from plugins.pipelines import ScriptedEmbedder, finish, pipeline_around

QUICK = ("QUICK_EMBED_S", "QUICK_COMMIT_S")
STATES = "SELECT state, count(*) FROM embedfleet.batch GROUP BY state"


def vectors_of(leases):
    texts = [text for lease in leases for text in lease.texts]
    return fake_vectors(leases[0].collection.space, texts, "document")


def several(store):
    """Batches that one worker has claimed at once."""
    lease = store.claim("cpu")
    return [lease, *store.claim_more(lease, "cpu")]


def quick(monkeypatch, embed_s=float("inf"), commit_s=float("inf")):
    """How soon a worker has to be through with a batch to be given several."""
    for name, seconds in zip(QUICK, (embed_s, commit_s), strict=True):
        monkeypatch.setattr(f"embedfleet_workers.pipeline.{name}", seconds)


def whole(fleet, docs):
    found = docs.audit()
    assert (0, 0, 0) == (found.missing, found.extra, counters.miscounted(fleet.db, docs.info))
    return found.stored


def test_all_batches_of_a_job_are_embedded_and_committed_together(fleet, docs, monkeypatch):
    quick(monkeypatch)
    job = docs.enqueue(documents(60))
    embedder = ScriptedEmbedder(docs.info.space, lambda _, vectors: vectors)
    pipeline, stats = pipeline_around(fleet, embedder)
    pipeline.run_one("cpu")
    assert "done" == pipeline.run_one("cpu")
    assert 2 == embedder.calls
    assert "idle" == pipeline.run_one("cpu")
    assert [("done", len(stats))] == ask(fleet, STATES)
    assert 60 == sum(each.texts for each in stats) == whole(fleet, docs)
    assert (0, 60, 0) == (job.status.queued, job.status.embedded, job.status.failed)


@pytest.mark.parametrize("slow", ["embed_s", "commit_s"])
def test_a_slow_model_or_a_slow_commit_takes_one_batch_at_a_time(fleet, docs, monkeypatch, slow):
    quick(monkeypatch, **{slow: 0.0})
    docs.enqueue(documents(60))
    embedder = ScriptedEmbedder(docs.info.space, lambda _, vectors: vectors)
    pipeline, stats = pipeline_around(fleet, embedder)
    finish(fleet, pipeline)
    assert len(stats) == embedder.calls > 2


def test_what_goes_wrong_with_several_concerns_the_one_that_it_is_in(fleet, docs, monkeypatch):
    quick(monkeypatch)
    docs.enqueue(documents(60))

    def refuses(texts, vectors):
        if any("d41x0" in text.split() for text in texts):
            raise InputAtFault(reason="there is poison in it")
        return vectors

    pipeline, _ = pipeline_around(fleet, ScriptedEmbedder(docs.info.space, refuses))
    finish(fleet, pipeline)
    assert ["d41"] == [failure.document for failure in docs.failures()]
    assert 59 == whole(fleet, docs)


def test_of_batches_that_are_committed_together_those_that_were_lost_are_left_alone(fleet, docs):
    docs.enqueue(documents(60))
    store = batches_of(fleet)
    leases = several(store)
    lost = leases[1]
    expire = "UPDATE embedfleet.batch SET lease_until = now() - interval '1 s' WHERE id = %s"
    ask(fleet, expire, lost.id)
    sweep(fleet.db)
    held = store.commit_several(leases, vectors_of(leases))
    assert {lease.id for lease in leases} - {lost.id} == set(held)
    assert {"done": len(leases) - 1, "pending": 1} == dict(ask(fleet, STATES))
    again = store.claim("cpu")
    assert (lost.id, lost.text_ids) == (again.id, again.text_ids)
    commit(store, again)
    assert 60 == whole(fleet, docs)


def test_a_vector_that_is_stored_already_is_counted_once(fleet, docs):
    docs.enqueue(documents(60))
    store = batches_of(fleet)
    leases = several(store)
    part = leases[0].only([0])
    store.store(leases[0], [0], vectors_of([part]))
    store.commit_several(leases, vectors_of(leases))
    assert 60 == whole(fleet, docs)


def test_what_was_deleted_meanwhile_gets_no_vector(fleet, docs):
    docs.enqueue(documents(60))
    store = batches_of(fleet)
    leases = several(store)
    docs.delete(["d7", "d41"])
    store.commit_several(leases, vectors_of(leases))
    assert 58 == whole(fleet, docs)


def test_what_is_taken_at_once_is_of_one_job_that_nothing_stands_in_the_way_of(fleet, docs):
    first = docs.enqueue(documents(60))
    docs.enqueue(documents(30, "e"))
    store = batches_of(fleet)
    lease = store.claim("cpu")
    assert {first.id} == {each.job_id for each in store.claim_more(lease, "cpu")}
    assert first.id != store.claim("cpu").job_id


@pytest.mark.parametrize("stop", ["pause", "cancel"])
def test_nothing_more_is_taken_of_a_job_that_was_stopped(fleet, docs, stop):
    job = docs.enqueue(documents(60))
    store = batches_of(fleet)
    lease = store.claim("cpu")
    getattr(job, stop)()
    assert [] == store.claim_more(lease, "cpu")


def test_a_batch_that_was_charged_something_is_taken_by_itself(fleet, docs):
    docs.enqueue(documents(60))
    store = batches_of(fleet)
    charged = store.claim("cpu")
    store.retry(charged, delay_s=0, reason="boom")
    assert charged.id not in {each.id for each in several(store)}
    assert charged.id == store.claim("cpu").id


def test_nothing_more_is_taken_of_a_job_with_a_budget(fleet, docs):
    job = docs.enqueue(documents(60))
    store = batches_of(fleet)
    lease = store.claim("cpu")
    ask(fleet, "UPDATE embedfleet.job SET budget_usd = 1 WHERE id = %s", job.id)
    assert [] == store.claim_more(lease, "cpu")


def test_what_another_worker_is_embedding_is_put_back(fleet, docs):
    docs.enqueue(documents(60))
    store, other = batches_of(fleet), batches_of(fleet)
    *leases, held = several(store)
    store.commit_several(leases, vectors_of(leases))
    again = queue_again(fleet, docs, held.texts[0], *leases[0].texts, *leases[1].texts)
    taken = other.claim_more(replace(leases[0], job_id=again, lane="bulk"), "cpu")
    assert taken
    assert [] == [text_id for lease in taken for text_id in lease.text_ids]
    put_back = "SELECT reason, run_after > now() FROM embedfleet.batch WHERE state = 'pending'"
    assert [(OVERLAP_REASON, True)] == ask(fleet, put_back)

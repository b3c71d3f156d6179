"""Counters: how much there is, without counting it, whoever changes it and whenever that is."""

from dataclasses import replace

import numpy as np
import pytest

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.statements import load
from embedfleet_schema.store import collection_counts, counters, workers
from embedfleet_schema.store.collection_counts import CollectionCounts, counts_of_all
from embedfleet_schema.store.sweep import sweep
from plugins.filled_collections import fill
from plugins.fleets import ask, batches_of
from plugins.pauses import commit, documents
from plugins.query_plans import buffers_read, most_read

DELTAS = "SELECT count(*) FROM embedfleet.counter_delta"


def held(docs: ef.Collection) -> tuple[int, ...]:
    counts = docs.counts()
    return (counts.documents, counts.live_documents, counts.chunks, counts.vectors, counts.failures)


def right(fleet: Fleet, docs: ef.Collection) -> bool:
    return 0 == counters.miscounted(fleet.db, docs.info)


def test_a_collection_says_what_it_holds_after_everything_that_changes_it(fleet, docs):
    assert (0, 0, 0, 0, 0) == held(docs)
    docs.enqueue([*documents(30), ef.Document("bad", "a\0b")])
    assert (30, 0, 30, 0, 1) == held(docs)
    store = batches_of(fleet)
    commit(store, store.claim("cpu"))
    store.fail(store.claim("cpu"), code="INPUT_REJECTED", reason="no")
    _, live, _, vectors, failures = held(docs)
    assert live == vectors + failures - 1 > vectors > 0
    assert right(fleet, docs)
    while lease := store.claim("cpu"):
        commit(store, lease)
    docs.enqueue([ef.Document("d0", chunks=["one part", "another part"])])
    assert (30, 30, 32) == held(docs)[:3]
    commit(store, store.claim("cpu"))
    assert (30, 30, 31) == held(docs)[:3]
    docs.delete(["d0", "d1", "nowhere"])
    assert (28, 28, 28) == held(docs)[:3]
    assert 1 == docs.clear_failures()
    assert right(fleet, docs)
    docs.retry()
    commit(store, store.claim("cpu"))
    assert (28, 28, 28, 28, 0) == held(docs)
    assert right(fleet, docs)


def test_what_is_copied_from_another_collection_is_counted(fleet, docs):
    docs.enqueue(documents(5))
    store = batches_of(fleet)
    commit(store, store.claim("cpu"))
    other = fleet.collection("other", model="fake/16")
    other.enqueue(documents(5))
    lease = store.reuse(store.claim("cpu"))
    commit(store, lease)
    assert (5, 5, 5, 5, 0) == held(other)
    assert right(fleet, other)
    assert {each.info.id: unsized(each.counts()) for each in (docs, other)} == {
        number: unsized(counts) for number, counts in counts_of_all(fleet.db).items()
    }


def unsized(counts: CollectionCounts) -> CollectionCounts:
    return replace(counts, bytes=0, vector_bytes=0)


def test_a_list_of_all_says_the_sizes_of_the_last_statistics(fleet, docs):
    vectors = np.random.default_rng(1).normal(size=(5_000, 16)).astype(np.float32)
    fill(fleet, docs, vectors, [{"n": n} for n in range(5_000)])
    docs.index()
    exact, listed = docs.counts(), counts_of_all(fleet.db)[docs.info.id]
    # All but the maps that PostgreSQL keeps beside each table.
    assert 0.9 * exact.bytes < listed.bytes < exact.bytes
    assert 0.9 * exact.vector_bytes < listed.vector_bytes < exact.vector_bytes
    assert exact.indexed
    assert listed.indexed


def test_the_sweep_adds_up_what_changed_and_nothing_else_changes(fleet, docs):
    job = docs.enqueue(documents(30))
    store = batches_of(fleet)
    commit(store, store.claim("cpu"))
    job.pause()
    before = (held(docs), job.status.queued, job.status.embedded, fleet.queues())
    assert [(0,)] != ask(fleet, DELTAS)
    sweep(fleet.db)
    assert [(0,)] == ask(fleet, DELTAS)
    assert before == (held(docs), job.status.queued, job.status.embedded, fleet.queues())
    assert right(fleet, docs)


def test_changes_of_a_collection_that_was_dropped_are_forgotten(fleet, docs):
    docs.enqueue(documents(5))
    docs.drop()
    sweep(fleet.db)
    assert [(0,)] == ask(fleet, DELTAS)


def test_nobody_waits_for_a_transaction_that_counts(fleet, docs):
    job = docs.enqueue(documents(30))
    store = batches_of(fleet)
    first, second = store.claim("cpu"), store.claim("cpu")
    with fleet.db.transaction() as conn:
        conn.execute("SET LOCAL lock_timeout = '1ms'")
        conn.execute(
            "INSERT INTO embedfleet.counter_delta (collection_id, job_id, delivery, queued)"
            " VALUES (%s, %s, 'direct', 0)",
            (docs.info.id, job.id),
        )
        commit(store, first)
        counted = job.status.embedded
        sweep(fleet.db)
        commit(store, second)
        assert job.status.embedded == counted + len(second.texts)
    assert right(fleet, docs)


def test_an_audit_tells_counters_that_are_wrong_and_sets_them_right(fleet, docs, command):
    job = docs.enqueue(documents(30))
    sweep(fleet.db)
    expected = (held(docs), job.status)
    ask(fleet, "UPDATE embedfleet.collection_counter SET vectors = 7, chunks = 1")
    ask(fleet, "UPDATE embedfleet.job_counter SET queued = 7")
    assert 3 == docs.audit().miscounted
    said = command("audit", "docs")
    assert 1 == said.code
    assert "3 counters are wrong" in said.out
    assert "set the counters right" in command("audit", "docs", "--repair").out
    assert expected[0] == held(docs)
    assert expected[1].queued == job.status.queued
    assert docs.audit().clean


def test_what_waits_is_told_by_queue(fleet, docs):
    job = docs.enqueue(documents(30))
    total = job.status.total
    store = batches_of(fleet)
    batches = ask(fleet, "SELECT count(*) FROM embedfleet.batch")[0][0]
    store.claim("cpu")
    store.defer(store.claim("cpu"), delay_s=3600, reason="later")
    (queue,) = fleet.queues()
    assert (batches - 2, 1, 0, 1) == (queue.ready, queue.deferred, queue.held, queue.leased)
    job.pause()
    (queue,) = fleet.queues()
    assert (0, 0, batches - 1, 1) == (queue.ready, queue.deferred, queue.held, queue.leased)
    job.cancel()
    assert total > job.status.total > 0
    assert right(fleet, docs)


# What people look at, by file and name, with what it asks for.
LOOKS = {
    ("jobs", "status"): {"jobs": [1]},
    ("jobs", "latest"): {"collection_id": None, "limit": 10},
    ("collections", "counts"): {"collection_id": 1},
    ("spaces", "paused"): {"space_id": None},
    ("workers", "queues"): {"most": 100},
}


@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
def test_what_people_look_at_reads_the_same_however_much_waits(fleet, docs, look):
    docs.enqueue(documents(5))
    ask(
        fleet,
        "INSERT INTO embedfleet.batch (job_id, collection_id, space_id, queue, state, run_after,"
        " chunks, tokens, texts) SELECT 1, 1, 1, 'cpu', 'pending', now() - interval '1 h', 8, 96,"
        " ARRAY[n] FROM generate_series(1, 20000) AS n",
    )
    ask(
        fleet,
        "INSERT INTO embedfleet.batch (job_id, collection_id, space_id, queue, state, chunks,"
        " stored, tokens, texts, finished_at) SELECT 1, 1, 1, 'cpu', 'done', 8, 8, 96, '{}',"
        " now() - interval '5 min'"
        " FROM generate_series(1, 20000) AS n",
    )
    paused = "UPDATE embedfleet.space SET paused_at = now(), pause_code = 'c', pause_reason = 'r'"
    ask(fleet, paused)
    counters.repair(fleet.db, docs.info)
    ask(fleet, "ANALYZE")
    file, name = look
    parts = {
        "of_jobs": counters.OF_JOBS,
        "of_collections": counters.OF_COLLECTIONS,
        "sizes": collection_counts.sizes("measured"),
        "alive": workers.ALIVE,
    }
    statement = load(file)[name].format(**parts).as_string(None)
    with fleet.db.transaction() as conn:
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        explained = conn.execute(explain, LOOKS[look]).fetchall()
    assert most_read(explained) < 1_000
    assert buffers_read(explained) < 500

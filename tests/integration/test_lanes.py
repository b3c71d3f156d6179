"""Lanes: what is interactive goes first, bulk goes on, and a text that both want goes early."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

import embedfleet as ef
from embedfleet_schema.errors import BadArgument
from embedfleet_schema.settings import load_settings
from embedfleet_schema.store import lanes
from embedfleet_schema.store.sweep import sweep
from embedfleet_workers.embedders.fake import fake_vectors
from plugins.fleets import ask, batches_of, documents, drain, small_fleet, workers_of
from plugins.servers import fresh_database

BACKLOG = documents(60, word="backlog")


@pytest.fixture
def bulk(docs):
    """A backlog of small batches."""
    return docs.enqueue(BACKLOG, lane="bulk")


def claimed(fleet, lanes=("interactive", "bulk")):
    """The job of each batch that waits, in the order of the claim; nothing stays leased."""
    store, found = batches_of(fleet), []
    while lease := store.claim("cpu", lanes=lanes):
        found.append(lease.job_id)
    return found


def open_batches(fleet):
    return ask(
        fleet,
        "SELECT job_id, priority, chunks FROM embedfleet.batch WHERE state IN ('pending', 'held')"
        " ORDER BY priority, id",
    )


def test_a_small_job_is_interactive_and_a_large_one_bulk_by_themselves(migrated_url, redis_url):
    settings = load_settings(
        database_url=migrated_url, redis_url=redis_url, interactive_tokens=40, batch_tokens_cpu=64
    )
    with ef.Fleet(settings) as fleet:
        docs = fleet.collection("docs", model="fake/16")
        small, large = docs.enqueue(documents(2)), docs.enqueue(BACKLOG)
        assert ["interactive", "bulk"] == [small.status.lane, large.status.lane]
        assert {(small.id, -1), (large.id, 0)} == {row[:2] for row in open_batches(fleet)}


def test_a_job_is_bulk_from_the_window_on_that_makes_it_large(migrated_url, redis_url):
    settings = load_settings(
        database_url=migrated_url, redis_url=redis_url, interactive_tokens=40, window_documents=10
    )
    with ef.Fleet(settings) as fleet:
        docs = fleet.collection("docs", model="fake/16")
        job = docs.enqueue(BACKLOG[:40])
        assert "bulk" == job.status.lane
        assert [(job.id, -1, 10), *[(job.id, 0, 10)] * 3] == open_batches(fleet)


def test_texts_that_others_queued_count_for_the_size_of_a_job(migrated_url, redis_url):
    settings = load_settings(
        database_url=migrated_url, redis_url=redis_url, interactive_tokens=40, batch_tokens_cpu=64
    )
    with ef.Fleet(settings) as fleet:
        docs = fleet.collection("docs", model="fake/16")
        first = docs.enqueue(BACKLOG)
        again = docs.enqueue(BACKLOG)
        assert "bulk" == again.status.lane
        assert {(first.id, 0)} == {row[:2] for row in open_batches(fleet)}


def test_a_lane_that_is_named_holds_whatever_the_size(fleet, docs):
    small, large = (
        docs.enqueue(documents(2), lane="bulk"),
        docs.enqueue(BACKLOG, lane="interactive"),
    )
    assert ["bulk", "interactive"] == [small.status.lane, large.status.lane]
    assert [large.id] == list(dict.fromkeys(claimed(fleet)))[:1]


def test_an_unknown_lane_is_refused_before_anything_is_stored(fleet, docs):
    with pytest.raises(BadArgument, match="lane is one of interactive, bulk, not 'batch'"):
        docs.enqueue(BACKLOG, lane="batch")
    assert [] == fleet.jobs()


def test_what_is_interactive_is_claimed_before_a_backlog_that_came_first(fleet, docs, bulk):
    job = docs.enqueue(documents(2))
    jobs = claimed(fleet)
    assert job.id == jobs[0]
    assert {bulk.id} == set(jobs[1:])


def test_a_claim_takes_nothing_of_a_lane_that_it_does_not_ask_for(fleet, docs, bulk):
    job = docs.enqueue(documents(2))
    assert [job.id] == claimed(fleet, ["interactive"])
    assert {bulk.id} == set(claimed(fleet, ["bulk"]))


def test_what_is_queued_again_is_bulk_unless_asked(fleet, docs, worker):
    docs.enqueue(documents(2))
    drain(worker())
    ask(fleet, "DELETE FROM embedfleet._vectors_1_1")
    assert "bulk" == fleet.job(docs.audit(repair=True).job_id).status.lane
    ask(fleet, "DELETE FROM embedfleet.batch")
    asked = docs.audit(repair=True, lane="interactive", tenant="acme")
    status = fleet.job(asked.job_id).status
    assert ("interactive", "acme") == (status.lane, status.tenant)


def test_texts_of_a_backlog_that_an_interactive_job_wants_go_first_and_alone(
    fleet, docs, bulk, worker
):
    before = open_batches(fleet)
    job = docs.enqueue([ef.Document("mine", BACKLOG[7].text), ef.Document("also", "new words")])
    first = batches_of(fleet).claim("cpu")
    second = batches_of(fleet).claim("cpu")
    assert {(job.id, "new words"), (bulk.id, BACKLOG[7].text)} == {
        (each.job_id, text) for each in (first, second) for text in each.texts
    }
    ask(
        fleet,
        "UPDATE embedfleet.batch SET lease_until = now() - interval '1 h', owner = NULL"
        " WHERE state = 'leased'",
    )
    assert (
        sum(chunks for *_, chunks in before)
        == sum(chunks for *_, chunks in ask(fleet, "SELECT 0, chunks FROM embedfleet.batch")) - 1
    )
    assert sweep(fleet.db).reclaimed == 2
    drain(worker())
    assert {"done"} == {job.status.state, bulk.status.state}
    assert (60, 2, 1) == (bulk.status.embedded, job.status.embedded, job.status.awaited)
    assert docs.audit().clean


def test_an_interactive_job_is_done_before_the_backlog_that_has_its_texts(
    fleet, docs, bulk, worker
):
    job = docs.enqueue([ef.Document(f"mine{n}", BACKLOG[n].text) for n in range(0, 60, 20)])
    assert 3 == job.status.queued
    store = batches_of(fleet)
    while job.status.state != "done":
        lease = store.claim("cpu")
        store.commit(lease, fake_vectors(docs.info.space, lease.texts, "document"))
    assert 3 == bulk.status.embedded
    drain(worker())
    assert (60, "done") == (bulk.status.embedded, bulk.status.state)
    assert docs.audit().clean


def test_a_batch_that_is_wanted_whole_is_not_divided(fleet, docs):
    bulk = docs.enqueue(documents(4), lane="bulk")
    assert [(bulk.id, 0, 4)] == open_batches(fleet)
    docs.enqueue([ef.Document(f"copy{n}", each.text) for n, each in enumerate(documents(4))])
    assert [(bulk.id, -1, 4)] == open_batches(fleet)


def test_a_bulk_job_brings_nothing_forward(fleet, docs, bulk):
    before = open_batches(fleet)
    docs.enqueue([ef.Document("mine", BACKLOG[7].text)], lane="bulk")
    assert before == open_batches(fleet)


def test_texts_of_a_backlog_that_is_paused_go_to_the_interactive_job(fleet, docs, bulk, worker):
    bulk.pause()
    job = docs.enqueue([ef.Document("mine", BACKLOG[7].text)])
    assert (job.id, -1, 1) == open_batches(fleet)[0]
    drain(worker())
    assert ("done", "paused") == (job.status.state, bulk.status.state)
    assert (1, 59) == (job.status.embedded, bulk.status.queued)
    bulk.resume()
    drain(worker())
    assert ("done", 60) == (bulk.status.state, bulk.status.embedded)


def test_what_somebody_has_claimed_stays_as_it_is(fleet, docs, bulk):
    lease = batches_of(fleet).claim("cpu")
    job = docs.enqueue([ef.Document("mine", lease.texts[0])])
    assert {(bulk.id, 0)} == {row[:2] for row in open_batches(fleet)}
    assert 1 == job.status.awaited


def test_the_lanes_tell_how_long_their_jobs_took(fleet, docs, bulk):
    assert [] == lanes.times(fleet.db)
    docs.enqueue(documents(2))
    with workers_of(fleet) as make:
        drain(make())
    from embedfleet_schema.store import counters, locks

    counters.fold(locks.ShortWaits(fleet.db))
    ask(fleet, "UPDATE embedfleet.job SET created_at = created_at - interval '1 min' WHERE id = 1")
    times = lanes.times(fleet.db)
    assert [("bulk", 1), ("interactive", 1)] == sorted((each.lane, each.jobs) for each in times)
    by_lane = {each.lane: each for each in times}
    assert by_lane["bulk"].p95_s >= 60 > by_lane["interactive"].p95_s >= 0


WORDS = "abcdefgh"
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["interactive", "bulk"]),
            st.lists(st.sampled_from(WORDS), min_size=1, max_size=8, unique=True),
        ),
        st.tuples(st.sampled_from(["pause", "resume", "cancel"]), st.integers(0, 9)),
        st.just("claim"),
    ),
    max_size=14,
)


@given(STEPS)
def test_nothing_is_lost_whatever_is_brought_forward(any_fleet, steps):
    """Jobs of both lanes want the same texts, are stopped, and workers come between."""
    docs = any_fleet.collection(f"c{uuid4().hex}", model="fake/8")
    store, made = batches_of(any_fleet), []
    for step in steps:
        if step == "claim":
            lease = store.claim("cpu")
            if lease is not None:
                space = docs.info.space
                store.commit(lease, fake_vectors(space, lease.texts, "document"))
            continue
        what, given_ = step
        if what in ("interactive", "bulk"):
            keys = [ef.Document(f"{len(made)}{each}", f"text {each} " * 8) for each in given_]
            made.append(docs.enqueue(keys, lane=what))
        elif made:
            getattr(made[given_ % len(made)], what)()
    for job in made:
        job.resume()
    while (lease := store.claim("cpu")) is not None:
        store.commit(lease, fake_vectors(docs.info.space, lease.texts, "document"))
    left = {job.status.state for job in made}
    assert left <= {"done", "cancelled"}
    found = docs.audit()
    assert (0, 0, 0) == (found.extra, found.miscounted, found.waiting)
    # What only jobs wanted that were cancelled is missing, and found by a repair.
    assert not found.missing or "cancelled" in left


@pytest.fixture(scope="module")
def any_fleet(stack, template_database):
    """One database for all examples."""
    with fresh_database(stack, template_database) as url, small_fleet(url, stack.redis_url) as made:
        yield made

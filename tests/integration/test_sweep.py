"""The sweep: who is charged with a crash, and where a batch comes back in its queue."""

from uuid import uuid4

import numpy as np
import pytest

import embedfleet as ef
from embedfleet_schema.store import workers
from embedfleet_schema.store.batches import Batches
from embedfleet_schema.store.sweep import sweep
from embedfleet_schema.store.workers import WorkerIdentity


def rows(fleet, statement: str, *values):
    with fleet.db.transaction() as conn:
        return conn.execute(statement, values).fetchall()


@pytest.fixture
def docs(fleet):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue([ef.Document(f"d{n}", f"text number {n} of them") for n in range(60)])
    return docs


@pytest.fixture
def registered(fleet, docs):
    """A worker that has said who it is."""
    identity = WorkerIdentity(uuid4(), "h", 1, ["cpu"], 1, "cpu", "0", heartbeat_seconds=20)
    with fleet.db.transaction() as conn:
        workers.register(conn, identity)
    return identity


def claimed_and_expired(fleet, owner):
    lease = Batches(fleet.db, owner=owner.id, lease_seconds=60).claim("cpu")
    expire(fleet, lease.id)
    return lease


def expire(fleet, batch_id):
    past = "UPDATE embedfleet.batch SET lease_until = now() - interval '1 s' WHERE id = %s"
    with fleet.db.transaction() as conn:
        conn.execute(past, (batch_id,))
        conn.execute("UPDATE embedfleet.worker SET last_seen = now() - interval '1 h'")


def crashes_of(fleet, lease):
    return rows(fleet, "SELECT crashes, state FROM embedfleet.batch WHERE id = %s", lease.id)


def test_a_worker_that_fell_silent_is_charged_with_a_crash(fleet, registered):
    lease = claimed_and_expired(fleet, registered)
    sweep(fleet.db)
    assert [(1, "pending")] == crashes_of(fleet, lease)


def test_a_worker_that_was_cut_off_and_lives_is_charged_with_nothing(fleet, registered):
    lease = claimed_and_expired(fleet, registered)
    with fleet.db.transaction() as conn:
        workers.beat(conn, registered, batches=0, chunks=0, tokens=0)
    sweep(fleet.db)
    assert [(0, "pending")] == crashes_of(fleet, lease)


def test_a_worker_that_signed_off_is_charged_with_nothing(fleet, registered):
    lease = claimed_and_expired(fleet, registered)
    with fleet.db.transaction() as conn:
        workers.leave(conn, registered.id)
    sweep(fleet.db)
    assert [(0, "pending")] == crashes_of(fleet, lease)


def test_the_last_text_that_is_left_of_many_is_not_accused_before_it_stood_alone(fleet, registered):
    failures = "SELECT code FROM embedfleet.failure"
    first = claimed_and_expired(fleet, registered)
    sweep(fleet.db)
    second = claimed_and_expired(fleet, registered)
    assert first.id == second.id
    rest = range(1, len(second.text_ids))
    vectors = np.ones((len(rest), 16), dtype=np.float32)
    batches = Batches(fleet.db, owner=registered.id, lease_seconds=60)
    batches.store(second, rest, vectors)
    sweep(fleet.db)
    (alone,) = rows(fleet, "SELECT id, texts FROM embedfleet.batch WHERE parent_id = %s", first.id)
    assert ([second.text_ids[0]], []) == (alone[1], rows(fleet, failures))
    while batches.claim("cpu").id != alone[0]:
        """The others come first."""
    for _ in range(2):
        expire(fleet, alone[0])
        sweep(fleet.db)
        batches.claim("cpu")
    assert [("WORKER_CRASH",)] == rows(fleet, failures)


def test_a_reclaimed_batch_is_the_next_one_however_long_the_backlog(fleet, registered):
    lease = claimed_and_expired(fleet, registered)
    sweep(fleet.db)
    assert lease.id == Batches(fleet.db, owner=registered.id, lease_seconds=60).claim("cpu").id


def test_a_sweep_that_only_rings_reclaims_nothing(fleet, registered):
    lease = claimed_and_expired(fleet, registered)
    assert 0 == sweep(fleet.db, reclaim=False).reclaimed
    assert [(0, "leased")] == crashes_of(fleet, lease)

"""What must hold after every fault test, once a healthy worker has finished what is left.

I1: every live chunk has its vector, or a failure with a code.
I2: no batch is pending or leased without a reason.
I3: each stored vector is the vector of its text, bit for bit.
I4: each vector was written in a transaction that changed its batch under the attempt that had
    leased it: no attempt that lost its lease has written any.
I5: the counters of each collection and of its jobs are what the rows say.
"""

import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from psycopg import sql

from embedfleet.collection import Collection
from embedfleet.fleet import Fleet
from embedfleet_schema.statements import composed
from embedfleet_schema.store import counters
from embedfleet_schema.store.sweep import sweep
from embedfleet_workers.embedders.fake import fake_vectors
from embedfleet_workers.runtime import Launch, Runtime
from plugins import fenced_writes

# Longer than the longest lease that a test leaves behind.
QUIET_S = 90.0

WITHOUT_VECTOR = """
SELECT d.key, c.position
FROM embedfleet.{documents} AS d
JOIN embedfleet.{chunks} AS c ON c.document_id = d.id AND {in_live}
WHERE NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.text_id = c.text_id)
    AND NOT EXISTS (
        SELECT FROM embedfleet.failure AS f
        WHERE f.collection_id = %(collection)s AND f.text_id = c.text_id AND f.code <> ''
    )
"""
UNEXPLAINED = """
SELECT id, state, run_after, reason FROM embedfleet.batch
WHERE state = 'leased'
    OR state = 'pending' AND (reason IS NULL OR run_after <= coalesce(%(at)s, now()))
"""
STORED = """
SELECT v.text_id, (
    SELECT content FROM embedfleet.{texts} AS t WHERE t.id = v.text_id AND EXISTS (
        SELECT FROM embedfleet.{chunks} AS c WHERE c.text_id = t.id
    )
), v.embedding
FROM embedfleet.{vectors} AS v
"""


@pytest.fixture(autouse=True)
def _invariants(request: pytest.FixtureRequest) -> Iterator[None]:
    """Checks the invariants after each test that has a fleet, when its own workers have ended."""
    if "fleet" not in request.fixturenames:
        yield
        return
    fleet: Fleet = request.getfixturevalue("fleet")
    fenced_writes.watch(fleet)
    yield
    quiet_at = make_quiet(fleet)
    assert [] == fenced_writes.unfenced(fleet)
    check(fleet, quiet_at)


def make_quiet(fleet: Fleet) -> datetime:
    """A healthy worker takes what is ready, and what dead workers held, until nothing is left;
    returns when that was: what waits for its time may be ready a moment later.
    """
    runtime = Runtime(fleet.settings, Launch(("cpu",), 1, 1))
    runtime.start()
    deadline = time.monotonic() + QUIET_S
    try:
        while _open(fleet, at := now(fleet)) and time.monotonic() < deadline:
            sweep(fleet.db)
            while runtime.run_one("cpu") != "idle":
                pass
            time.sleep(0.05)
    finally:
        runtime.stop()
    return at


def check(fleet: Fleet, at: datetime | None = None) -> None:
    """`at` is when nothing was ready; now, where it is not given."""
    with fleet.db.transaction() as conn:
        assert [] == conn.execute(UNEXPLAINED, {"at": at}).fetchall()
    for collection in fleet.collections():
        check_collection(fleet, collection)


def check_collection(fleet: Fleet, collection: Collection) -> None:
    info = collection.info
    with fleet.db.transaction() as conn:
        without_vector = composed(sql.SQL(WITHOUT_VECTOR), info)
        bare = conn.execute(without_vector, {"collection": info.id}).fetchall()
        stored = conn.execute(composed(sql.SQL(STORED), info)).fetchall()
    assert 0 == counters.miscounted(fleet.db, info)
    assert [] == bare
    texts = [content for _, content, _ in stored]
    assert None not in texts, "a vector outlived its text"
    if info.space.provider == "fake" and info.space.storage == "vector":
        expected = fake_vectors(info.space, texts, "document")
        for (_, text, found), vector in zip(stored, expected, strict=True):
            assert found.to_numpy().tolist() == vector.tolist(), text


def now(fleet: Fleet) -> datetime:
    """By the database's clock."""
    with fleet.db.transaction() as conn:
        found: datetime = conn.execute("SELECT now()").fetchone()[0]  # type: ignore[index]
    return found


def _open(fleet: Fleet, at: datetime) -> bool:
    with fleet.db.transaction() as conn:
        return conn.execute(UNEXPLAINED, {"at": at}).fetchone() is not None

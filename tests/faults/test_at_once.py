"""Producers, deleters and workers at once: whatever the order, what is stored is what should be."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_workers.embedders.fake import fake_vectors
from embedfleet_workers.runtime import Launch, Runtime

KEYS = [f"key-{n}" for n in range(25)]
# Few texts, so that documents share them and every vector has several owners over time.
TEXTS = [f"sentence number {n} that several documents share" for n in range(40)]


def edit(fleet: Fleet, seed: int, rounds: int) -> None:
    """Enqueue and delete random documents of a small set."""
    docs = fleet.collection("docs")
    rng = random.Random(seed)
    for _ in range(rounds):
        keys = rng.sample(KEYS, rng.randint(1, 8))
        if rng.random() < 0.25:
            docs.delete(keys)
        else:
            docs.enqueue(
                [ef.Document(key, chunks=rng.sample(TEXTS, rng.randint(1, 6))) for key in keys]
            )


def work(fleet: Fleet, stopping: threading.Event) -> set[str]:
    runtime = Runtime(fleet.settings, Launch(("cpu",), 1, 1))
    runtime.start()
    outcomes = set()
    # A batch may be put back for a second, so that idle is not yet done.
    while not stopping.is_set() or fleet.queues():
        outcomes.add(outcome := runtime.run_one("cpu"))
        if outcome == "idle":
            time.sleep(0.01)
    runtime.stop()
    return outcomes


def watch(fleet: Fleet, stopping: threading.Event) -> list[str]:
    """Readers: a document is seen whole, in the version that is live, or not at all."""
    wrong = []
    statement = (
        "SELECT s.document, s.seen, d.chunks FROM ("
        " SELECT document, count(*) AS seen FROM embedfleet.docs GROUP BY document) AS s"
        " JOIN (SELECT d.key, count(*) AS chunks FROM embedfleet._documents_1 AS d"
        " JOIN embedfleet._chunks_1 AS c ON c.document_id = d.id"
        " AND (c.version = d.live_version OR c.id <@ d.live_kept)"
        " GROUP BY d.key) AS d ON d.key = s.document WHERE s.seen <> d.chunks"
    )
    while not stopping.is_set():
        with fleet.db.transaction() as conn:
            wrong += [str(row) for row in conn.execute(statement)]
        stopping.wait(0.005)
    return wrong


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_mixed_or_left_over(fleet, seed):
    docs = fleet.collection("docs", model="fake/16")
    edited, seen = threading.Event(), threading.Event()
    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(work, fleet, edited) for _ in range(2)]
        reader = pool.submit(watch, fleet, seen)
        editors = [pool.submit(edit, fleet, seed * 10 + n, 40) for n in range(3)]
        try:
            for editor in editors:
                editor.result()
        finally:
            edited.set()
            outcomes = set.union(*(worker.result() for worker in workers))
            seen.set()
        assert [] == reader.result()
    assert outcomes <= {"done", "idle"}
    found = docs.audit()
    assert (0, 0, 0) == (found.missing, found.extra, found.waiting)
    assert found.waiting_documents == 0
    space = docs.info.space
    with fleet.db.transaction() as conn:
        rows = conn.execute("SELECT content, embedding FROM embedfleet.docs").fetchall()
    expected = fake_vectors(space, [content for content, _ in rows], "document")
    for (_, stored), vector in zip(rows, expected, strict=True):
        assert stored.to_numpy().tolist() == vector.tolist()

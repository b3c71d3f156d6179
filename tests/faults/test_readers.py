"""Readers beside writers: F13 of docs/reliability.md."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import embedfleet as ef
from embedfleet_workers.runtime import Launch, Runtime

KEYS = [f"key-{n}" for n in range(6)]
CHUNKS = 12


def version(key: str, number: int, stays: int) -> ef.Document:
    """A document of several batches, each chunk of which tells its version, but for some: these
    are the same in all versions, and stand between the others.
    """
    return ef.Document(
        key,
        chunks=[
            f"{key} part {n} stays" if n % 4 < stays else f"{key} version {number} part {n} of it"
            for n in range(CHUNKS)
        ],
    )


def work(fleet, ended: threading.Event) -> None:
    runtime = Runtime(fleet.settings, Launch(("cpu",), 1, 1))
    runtime.start()
    while (outcome := runtime.run_one("cpu")) != "idle" or not ended.is_set():
        if outcome == "idle":
            ended.wait(0.005)
    runtime.stop()


def read(fleet, always: set[str], ended: threading.Event) -> tuple[int, list[object]]:
    """Poll every 5 ms; returns how often, and each document seen in parts or not at all."""
    polls, wrong = 0, []
    while not ended.is_set():
        with fleet.db.transaction() as conn:
            rows = conn.execute("SELECT document, content FROM embedfleet.docs").fetchall()
        seen: dict[str, list[str]] = {}
        for document, content in rows:
            seen.setdefault(document, []).append(content.split(" part ")[0])
        wrong += [
            found
            for key, found in seen.items()
            if len(found) != CHUNKS or len(set(found) - {key}) != 1
        ]
        wrong += [f"{key} is gone" for key in always - seen.keys()]
        polls += 1
        time.sleep(0.005)
    return polls, wrong


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stays", [0, 2, 3])
@pytest.mark.parametrize("rounds", [25, pytest.param(400, marks=pytest.mark.nightly)])
def test_readers_see_the_old_version_or_the_new_one_while_documents_are_edited_and_deleted(
    fleet, seed, report, rounds, stays
):
    rng = random.Random(seed)
    docs = fleet.collection("docs", model="fake/16")
    kept = set(KEYS[:4])
    docs.enqueue([version(key, 0, stays) for key in KEYS])
    written, done = threading.Event(), threading.Event()
    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work, fleet, written) for _ in range(2)]
        while docs.audit().waiting_documents:
            time.sleep(0.05)
        reader = pool.submit(read, fleet, kept, done)
        for number in range(1, rounds + 1):
            docs.enqueue([version(key, number, stays) for key in rng.sample(KEYS, 3)])
            if rng.random() < 0.3:
                docs.delete([rng.choice(KEYS[4:])])
            time.sleep(rng.uniform(0, 0.05))
        written.set()
        for worker in workers:
            worker.result()
        done.set()
        polls, wrong = reader.result()
    report(edits=rounds, polls=polls, wrong=len(wrong))
    assert [] == wrong
    assert (0, 0) == (docs.audit().missing, docs.audit().extra)

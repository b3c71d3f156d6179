"""A fleet that was used before a fork: each process has connections of its own."""

import os
import subprocess
import sys

import numpy as np
import pytest

import embedfleet as ef
from plugins.api_fleets import DIMENSIONS, KEY, MAX_TOKENS, MODEL
from plugins.fleets import ask, drain

# `role` runs in each child and at the same time in the parent.
FORK = """
import os, sys, threading
import embedfleet as ef

ROUNDS = int(sys.argv[1])
fleet = ef.connect()
docs = fleet.collection("docs")

def role(number):
    pids = set()
    for n in range(ROUNDS):
        wanted = (number * 7 + n) % 50
        (hit,) = docs.search("a question", k=1, where={"n": wanted})
        assert hit.document == f"d{wanted}", (hit, wanted)
    job = docs.enqueue([ef.Document(f"of {number}", f"text of {number}")])
    assert (job.enqueued.documents, job.enqueued.rung) == (1, True), job.enqueued
    assert docs.audit().documents >= 51
    with fleet.db.transaction() as conn:
        return conn.info.backend_pid

before = role(0)
if sys.argv[2] == "held":
    # As if other threads of the parent were in the middle of something.
    pool = fleet.db._pool
    locks = [fleet._lock, fleet.db._lock, pool._lock, fleet.query_vectors._lock]
    held = threading.Event()
    over = threading.Event()
    def hold():
        for lock in locks:
            lock.acquire()
        held.set()
        over.wait()
        for lock in locks:
            lock.release()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
children = {}
for number in (1, 2):
    pid = os.fork()
    if not pid:
        try:
            assert role(number) != before
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        if number == 2:
            os._exit(0)
        sys.exit(0)  # with all that Python does at its end
    children[pid] = number
if sys.argv[2] == "held":
    over.set()
    thread.join()
role(3)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0, children[pid]
assert role(4) == before, "the parent lost its connection"
fleet.close()
print("well", flush=True)
"""


@pytest.fixture
def servers(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue(ef.Document(f"d{n}", f"text {n}", {"n": n}) for n in range(50))
    drain(worker())
    return {
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
        # One connection, so that parent and children would meet on it.
        "EMBEDFLEET_MAX_CONNECTIONS": "1",
    }


def assert_well(servers, program, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, *arguments],
        env={**os.environ, **servers},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (0, "well\n") == (done.returncode, done.stdout), done.stderr


LONG = pytest.param(1_000, "free", marks=pytest.mark.nightly)


@pytest.mark.parametrize(("rounds", "locks"), [(300, "free"), (50, "held"), LONG])
def test_forked_children_and_their_parent_get_their_own_rows(servers, rounds, locks):
    assert_well(servers, FORK, str(rounds), locks)


# Libraries have hooks of their own for such children, which run after ours.
FORK_BY_LIBRARY = """
import sys
from importlib import import_module
import embedfleet as ef

def enqueue(number):
    job = docs.enqueue([ef.Document(f"of {number}", f"text of {number}")])
    assert (job.enqueued.documents, job.enqueued.rung) == (1, True), job.enqueued

if __name__ == "__main__":
    processes = import_module(sys.argv[1]).get_context("fork")
    fleet = ef.connect()
    docs = fleet.collection("docs")
    enqueue(0)
    children = [processes.Process(target=enqueue, args=(number,)) for number in (1, 2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    enqueue(3)
    fleet.close()
    print("well", flush=True)
"""


@pytest.mark.parametrize("library", ["multiprocessing", "billiard"])
def test_children_that_a_library_forks_ring_too(servers, library):
    assert_well(servers, FORK_BY_LIBRARY, library)


FORK_WITH_API = """
import os, sys
import embedfleet as ef

fleet = ef.connect()
docs = fleet.collection("docs")

def role(number):
    for n in range(20):
        docs.embed_query(f"question {n} of {number}")

role(0)
children = []
for number in (1, 2):
    pid = os.fork()
    if not pid:
        try:
            role(number)
        except BaseException:
            os._exit(1)
        os._exit(0)
    children.append(pid)
role(3)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
role(4)
fleet.close()
print("well", flush=True)
"""


def test_forked_children_ask_a_provider_over_connections_of_their_own(api_fleet):
    fleet = api_fleet().fleet
    docs = fleet.collection("docs", model=MODEL, dimensions=DIMENSIONS, max_tokens=MAX_TOKENS)
    servers = {
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
        "EMBEDFLEET_OPENAI_BASE_URL": fleet.settings.openai_base_url,
        "EMBEDFLEET_OPENAI_API_KEY": KEY,
    }
    assert_well(servers, FORK_WITH_API)
    questions = [f"question {n} of {number}" for number in range(5) for n in range(20)]
    (stored,) = ask(fleet, "SELECT count(*) FROM embedfleet.query_vector")
    assert (100,) == stored
    expected = fleet.query_embedder(docs.info.space).embed(questions, "query")
    for question, vector in zip(questions, expected, strict=True):
        assert np.allclose(vector, docs.embed_query(question), atol=1e-6)

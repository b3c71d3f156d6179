"""Builds of an HNSW index: what memory they need is said before, and they end with their client."""

import os
import subprocess
import sys

import numpy as np
import pytest

from embedfleet_schema.database import Database
from embedfleet_schema.store import index_memory
from embedfleet_schema.store.vector_index import build
from plugins.filled_collections import fill
from plugins.fleets import ask
from plugins.worker_processes import eventually

PROGRESS = "SELECT pid, phase FROM pg_stat_progress_create_index"
OVERFLOW = "hnsw graph no longer fits into maintenance_work_mem"


def filled(fleet, dimensions, storage, vectors):
    docs = fleet.collection("docs", model=f"fake/{dimensions}", storage=storage)
    rng = np.random.default_rng(dimensions)
    fill(fleet, docs, rng.normal(size=(vectors, dimensions)).astype(np.float32), [{}] * vectors)
    return docs


def overflows(fleet, docs, *, memory_mb, workers):
    """Whether PostgreSQL says that the graph does not fit."""
    told = []
    settings = fleet.settings
    database = Database(settings.database, direct_url=settings.direct_database, max_connections=1)
    direct = database.direct

    def listened():
        conn = direct()
        conn.add_notice_handler(lambda notice: told.append(notice.message_primary))
        return conn

    database.direct = listened
    count = docs.counts().vectors
    build(database, docs.info, None, vectors=count, memory_mb=memory_mb, workers=workers)
    database.close()
    ask(fleet, f"DROP INDEX embedfleet.{docs.info.vectors}_hnsw")
    return any(OVERFLOW in text for text in told)


@pytest.mark.parametrize(
    ("dimensions", "storage", "vectors"),
    [
        (32, "vector", 3_000),
        (384, "vector", 1_500),
        (1_536, "vector", 500),
        (384, "halfvec", 2_000),
    ],
)
def test_the_memory_that_is_said_is_what_pgvector_needs(fleet, dimensions, storage, vectors):
    docs = filled(fleet, dimensions, storage, vectors)
    needed = docs.index_memory().needed_mb
    assert not overflows(fleet, docs, memory_mb=needed, workers=2)
    # A build by one process has the 4 MB that a parallel one keeps for itself.
    assert overflows(fleet, docs, memory_mb=needed - 6, workers=0)


def test_a_build_that_will_not_fit_is_told_before_it_begins(fleet, docs, command, monkeypatch):
    fill(fleet, docs, np.ones((50, 16), dtype=np.float32), [{}] * 50)
    ask(fleet, f"ANALYZE embedfleet.{docs.info.vectors}")
    quiet = command("index", "docs")
    assert (0, "") == (quiet.code, "".join(x for x in quiet.err.splitlines() if "memory" in x))
    ask(fleet, f"DROP INDEX embedfleet.{docs.info.vectors}_hnsw")
    assert "of docs needs" not in command("doctor").out
    monkeypatch.setattr(index_memory, "LEAST_MB", 1)
    monkeypatch.setattr(index_memory, "most_mb", lambda _: 4)
    assert "of docs needs 5 MB of memory for a fast build" in command("doctor").out
    told = command("index", "docs")
    assert 0 == told.code
    assert "The index needs 5 MB of the server's memory and the build uses 4 MB" in told.err
    assert "embedfleet index docs --memory 5" in told.err
    assert "of docs needs" not in command("doctor").out
    again = command("index", "docs", "--memory", "5")
    assert "docs is already indexed" in again.out


@pytest.mark.parametrize("which", ["vectors", "chunks"])
def test_a_build_ends_with_its_client(fleet, which):
    docs = fleet.collection("docs", model="fake/16", filter_index=False)
    fill(fleet, docs, np.ones((50, 16), dtype=np.float32), [{}] * 50)
    variables = {"EMBEDFLEET_DATABASE_URL": fleet.settings.database}
    table = f"embedfleet.{getattr(docs.info, which)}"
    progress = f"{PROGRESS} WHERE relid = '{table}'::regclass"
    with fleet.db.connect() as writer:
        # A build waits for those who write when it begins: for as long as this one likes.
        writer.execute("BEGIN")
        writer.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
        building = subprocess.Popen(
            [sys.executable, "-m", "embedfleet", "index", "docs"],
            env={**os.environ, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(lambda: ask(fleet, progress))
        building.kill()
        building.wait()
        eventually(lambda: not ask(fleet, progress))
    assert (docs.index(filters=False) if which == "vectors" else docs.index_filters()) is not None


def test_what_a_build_was_set_to_is_reset_with_it(fleet, docs):
    names = ("maintenance_work_mem", "client_connection_check_interval", "lock_timeout")
    with fleet.db.transaction() as conn:
        before = [conn.execute(f"SHOW {name}").fetchone() for name in names]
    docs.index(memory_mb=9, workers=0)
    with fleet.db.transaction() as conn:
        assert before == [conn.execute(f"SHOW {name}").fetchone() for name in names]

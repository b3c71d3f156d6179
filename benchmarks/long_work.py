"""What grows with a collection: audit, repair, pause, resume, cancel, delete, drop; and who waits.

The tables are filled by SQL, one short text to a chunk and twenty chunks to a document. Beside each
step another thread does what a worker's commit does first: it shares the collection and locks a
batch. Its longest wait is printed, with the bytes of the write-ahead log.
"""

from __future__ import annotations

import argparse
import resource
import threading
import time
from collections.abc import Callable

from psycopg import sql

import embedfleet as ef
from _scratch import machine, scratch_fleet
from embedfleet_schema.statements import composed
from embedfleet_schema.store import counters, locks

CHUNKS_PER_DOCUMENT = 20
TEXTS_PER_BATCH = 4
PAUSE_S = 0.005

FILL = (
    """
    INSERT INTO embedfleet.{documents} (key, digest, version, live_version)
    SELECT 'doc-' || n, 'digest', 1, CASE WHEN %(stored)s THEN 1 END
    FROM generate_series(1, %(chunks)s / %(each)s) AS n
    """,
    """
    INSERT INTO embedfleet.{texts} (hash, tokens, content)
    SELECT md5(n::text)::uuid, 10 + n %% 20, 'text ' || n || repeat(' and some words more', 4)
    FROM generate_series(1, %(chunks)s) AS n
    """,
    """
    INSERT INTO embedfleet.{chunks} (document_id, version, position, text_id, metadata)
    SELECT (n - 1) / %(each)s + 1, 1, (n - 1) %% %(each)s, n, '{{}}'
    FROM generate_series(1, %(chunks)s) AS n
    """,
    """
    INSERT INTO embedfleet.{vectors} (text_id, embedding)
    SELECT n, (
        SELECT array_agg(random() - 0.5) FROM generate_series(1, 32) WHERE n > 0
    )::{schema}.vector
    FROM generate_series(1, %(chunks)s) AS n
    WHERE %(stored)s
    """,
)
JOB = """
INSERT INTO embedfleet.job (collection_id, kind, loaded_at)
VALUES (%(collection)s, 'enqueue', now())
RETURNING id
"""
WAITING = """
INSERT INTO embedfleet.batch (job_id, collection_id, space_id, queue, state, chunks, tokens, texts)
SELECT %(job)s, %(collection)s, %(space)s, 'cpu', 'pending', %(each)s, 20 * %(each)s,
    ARRAY(SELECT generate_series(n * %(each)s + 1, (n + 1) * %(each)s))
FROM generate_series(0, %(batches)s - 1) AS n
"""
POINTED = """
UPDATE embedfleet.{texts} AS t SET batch_id = w.id
FROM (SELECT id, unnest(texts) AS text_id FROM embedfleet.batch WHERE job_id = %(job)s) AS w
WHERE t.id = w.text_id
"""
CLAIMABLE = """
SELECT id FROM embedfleet.batch
WHERE collection_id = %s AND state = 'pending'
ORDER BY id DESC LIMIT 1
FOR UPDATE SKIP LOCKED
"""


class Beside(threading.Thread):
    """Somebody who commits to the same collection again and again; knows its longest wait."""

    def __init__(self, fleet: ef.Fleet, collection: ef.Collection) -> None:
        super().__init__(daemon=True)
        self._fleet = fleet
        self._id = collection.info.id
        self._ended = threading.Event()
        self.longest_s = 0.0

    def run(self) -> None:
        while not self._ended.wait(PAUSE_S):
            started = time.monotonic()
            with self._fleet.db.transaction() as conn:
                locks.share(conn, self._id)
                conn.execute(CLAIMABLE, (self._id,))
            self.longest_s = max(self.longest_s, time.monotonic() - started)

    def end(self) -> float:
        self._ended.set()
        self.join()
        return self.longest_s


def filled(fleet: ef.Fleet, name: str, chunks: int, *, stored: bool) -> ef.Collection:
    collection = fleet.collection(name, model="fake/32")
    values = {"chunks": chunks, "each": CHUNKS_PER_DOCUMENT, "stored": stored}
    schema = sql.Identifier(fleet.db.vector_schema)
    with fleet.db.transaction() as conn:
        for statement in FILL:
            conn.execute(composed(sql.SQL(statement), collection.info, schema=schema), values)
        tables = sql.SQL(", ").join(
            sql.Identifier("embedfleet", table) for table in collection.info.tables
        )
    with fleet.db.direct() as conn:
        conn.execute(sql.SQL("VACUUM ANALYZE {}").format(tables))
    counters.repair(fleet.db, collection.info)
    return collection


def waiting(fleet: ef.Fleet, collection: ef.Collection, batches: int) -> ef.Job:
    """A job whose batches all wait."""
    info = collection.info
    values = {"collection": info.id, "space": info.space_id}
    values |= {"batches": batches, "each": TEXTS_PER_BATCH}
    with fleet.db.transaction() as conn:
        row = conn.execute(JOB, values).fetchone()
        assert row is not None
        conn.execute(WAITING, values | {"job": row[0]})
        conn.execute(composed(sql.SQL(POINTED), info), {"job": row[0]})
        texts = sql.Identifier("embedfleet", info.texts)
    with fleet.db.direct() as conn:
        conn.execute(sql.SQL("VACUUM ANALYZE embedfleet.batch, {}").format(texts))
    counters.repair(fleet.db, info)
    return fleet.job(row[0])


def measured(
    fleet: ef.Fleet, collection: ef.Collection, name: str, step: Callable[[], object]
) -> None:
    with fleet.db.transaction() as conn:
        conn.execute("CHECKPOINT")
        before = conn.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
    beside = Beside(fleet, collection)
    beside.start()
    memory_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    step()
    seconds = time.monotonic() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_before
    longest = beside.end()
    with fleet.db.transaction() as conn:
        log = conn.execute(
            "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)", before
        ).fetchone()
    assert log is not None
    print(
        f"{name:40} {seconds:6.2f} s, others waited {1e3 * longest:5.0f} ms at the most,"
        f" {float(log[0]) / 1e6:6.1f} MB of log, {memory / 1e3:5.1f} MB more memory",
        flush=True,
    )


def halts(fleet: ef.Fleet, batches: int) -> None:
    docs = filled(fleet, "waiting", batches * TEXTS_PER_BATCH, stored=False)
    job = waiting(fleet, docs, batches)
    measured(fleet, docs, f"pause {batches:,} batches", job.pause)
    measured(fleet, docs, "resume", job.resume)
    measured(fleet, docs, "pause again", job.pause)
    measured(fleet, docs, "resume again", job.resume)
    measured(fleet, docs, "cancel", job.cancel)
    texts = f"{batches * TEXTS_PER_BATCH:,} texts"
    measured(fleet, docs, f"audit --repair that queues {texts}", lambda: docs.audit(repair=True))
    measured(fleet, docs, "audit --repair again", lambda: docs.audit(repair=True))
    measured(fleet, docs, f"drop with {texts} waiting", docs.drop)


def stored(fleet: ef.Fleet, chunks: int) -> None:
    docs = filled(fleet, "stored", chunks, stored=True)
    measured(fleet, docs, f"audit of {chunks:,} chunks", docs.audit)
    measured(fleet, docs, "audit --repair of nothing", lambda: docs.audit(repair=True))
    measured(
        fleet, docs, "delete one document in ten", lambda: docs.delete_matching(prefix="doc-1")
    )
    measured(fleet, docs, f"drop the rest of {chunks:,} chunks", docs.drop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=2_000_000)
    parser.add_argument("--batches", type=int, default=120_000)
    given = parser.parse_args()
    print(machine())
    with scratch_fleet() as fleet:
        halts(fleet, given.batches)
        stored(fleet, given.chunks)


if __name__ == "__main__":
    main()

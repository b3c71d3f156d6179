"""What it takes to upgrade from before collections had tables of their own, and who waits.

A database at revision 0016 is filled by SQL: two collections, twenty short chunks to a document,
one document in fifty waiting in a batch. `embedfleet migrate` runs, is killed while it moves the
second collection, and runs again. Beside it a reader asks for documents through the views; each
answer is checked. Then hits are those of before, and the audit finds nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg

import embedfleet as ef
from _scratch import machine, scratch_fleet
from embedfleet_schema import migrate
from embedfleet_schema.settings import load_settings

FORMER = "0016"
COLLECTIONS = (1, 2)
CHUNKS_PER_DOCUMENT = 20
WAITS_EACH = 50
DIMENSIONS = 16
PAUSE_S = 0.01

FILL_ALL = f"""
INSERT INTO embedfleet.space (fingerprint, provider, model, dimensions, max_tokens, revision,
    pooling, normalized, document_prompt, query_prompt, storage, metric)
VALUES ('\\x00', 'fake', '{DIMENSIONS}', {DIMENSIONS}, 100, '', '', true, '', '', 'vector',
    'cosine');
INSERT INTO embedfleet.collection
    (name, space_id, queue, chunk_size, chunk_overlap, chunk_mode, tokenizer)
SELECT 'docs_' || n, 1, 'cpu', 100, 0, 'text', '' FROM generate_series(1, 2) AS n;
SELECT embedfleet.create_relations(id) FROM embedfleet.collection;
INSERT INTO embedfleet.job (collection_id, kind, loaded_at)
SELECT id, 'enqueue', now() FROM embedfleet.collection ORDER BY id;
"""
# Of one collection; numbers of documents go on from one to the next.
FILL = (
    """
    INSERT INTO embedfleet.document (collection_id, key, digest, version, live_version)
    SELECT %(id)s, 'doc-' || n, 'digest', 1, CASE WHEN n %% %(waits)s > 0 THEN 1 END
    FROM generate_series(1, %(documents)s) AS n
    """,
    """
    INSERT INTO embedfleet.chunk (collection_id, document_id, version, position, tokens, sha256,
        content, metadata)
    SELECT d.collection_id, d.id, 1, p, 20, sha256(convert_to(t.content, 'UTF8')), t.content,
        jsonb_build_object('n', p)
    FROM embedfleet.document AS d
    CROSS JOIN generate_series(0, %(each)s - 1) AS p
    CROSS JOIN LATERAL (
        SELECT format('%%s %%s', d.key, p) || repeat(' and some words more', 4) AS content
    ) AS t
    WHERE d.collection_id = %(id)s
    """,
    """
    INSERT INTO embedfleet.vectors_{id}_1 (sha256, embedding, batch_id, attempt)
    SELECT c.sha256, (
        SELECT array_agg(random() - 0.5) FROM generate_series(1, {dimensions}) WHERE c.id > 0
    )::public.vector, 1, 1
    FROM embedfleet.chunk AS c
    JOIN embedfleet.document AS d ON d.id = c.document_id
    WHERE c.collection_id = %(id)s AND d.live_version IS NOT NULL
    """,
    """
    INSERT INTO embedfleet.batch (job_id, collection_id, queue, state, chunks, tokens, hashes)
    SELECT %(id)s, %(id)s, 'cpu', 'pending', %(each)s, 20 * %(each)s, array_agg(c.sha256)
    FROM embedfleet.document AS d
    JOIN embedfleet.chunk AS c ON c.document_id = d.id
    WHERE d.collection_id = %(id)s AND d.live_version IS NULL
    GROUP BY d.id
    """,
)
NEAREST = (
    "SELECT document, position FROM embedfleet.docs_{} ORDER BY"
    " embedding OPERATOR(public.<=>) '[{}]'::public.vector, id LIMIT 10"
)
MOVED = "SELECT to_regclass('embedfleet._documents_1') IS NOT NULL"


class Reader(threading.Thread):
    """Asks for one document after the other until it ends; knows its longest wait."""

    def __init__(self, url: str, documents: int) -> None:
        super().__init__(daemon=True)
        self._conn = psycopg.connect(url, autocommit=True)
        self._documents = documents
        self._ended = threading.Event()
        self.reads, self.wrong, self.longest_s = 0, 0, 0.0

    def run(self) -> None:
        choice = random.Random(1)
        while not self._ended.wait(PAUSE_S):
            number = choice.randrange(self._documents // WAITS_EACH) * WAITS_EACH + 1
            read = f"SELECT count(*) FROM embedfleet.docs_{choice.choice(COLLECTIONS)}"
            started = time.monotonic()
            row = self._conn.execute(f"{read} WHERE document = %s", (f"doc-{number}",)).fetchone()
            self.longest_s = max(self.longest_s, time.monotonic() - started)
            self.reads += 1
            self.wrong += row != (CHUNKS_PER_DOCUMENT,)

    def end(self) -> None:
        self._ended.set()
        self.join()
        self._conn.close()


@contextmanager
def former_database(fleet: ef.Fleet, chunks: int) -> Iterator[str]:
    """The URL of a database as a release of then left it, beside the fleet's own."""
    admin = fleet.settings.database
    with psycopg.connect(admin, autocommit=True) as conn:
        conn.execute("CREATE DATABASE former")
    url = urlsplit(admin)._replace(path="/former").geturl()
    with migrate.prepared(url) as connection:
        migrate.upgrade(connection, FORMER)
    values: dict[str, Any] = {
        "documents": chunks // CHUNKS_PER_DOCUMENT // len(COLLECTIONS),
        "each": CHUNKS_PER_DOCUMENT,
        "waits": WAITS_EACH,
    }
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(FILL_ALL)
        for number in COLLECTIONS:
            for statement in FILL:
                written = statement.replace("{id}", str(number))
                written = written.replace("{dimensions}", str(DIMENSIONS))
                conn.execute(written, values | {"id": number})
        conn.execute("VACUUM ANALYZE")
    yield url


def hits(url: str) -> list[tuple[Any, ...]]:
    """The nearest of some questions in each collection: without an index, so they are exact."""
    choice = random.Random(2)
    with psycopg.connect(url) as conn:
        return [
            row
            for number in COLLECTIONS
            for _ in range(3)
            for row in conn.execute(
                NEAREST.format(number, ",".join(str(choice.gauss()) for _ in range(DIMENSIONS)))
            )
        ]


def upgrade_twice(url: str) -> tuple[float, float]:
    """The seconds until the first run was killed, and those of the second."""
    command = [sys.executable, "-m", "embedfleet", "migrate"]
    environment = os.environ | {"EMBEDFLEET_DATABASE_URL": url}
    started = time.monotonic()
    first = subprocess.Popen(command, env=environment)
    with psycopg.connect(url, autocommit=True) as conn:
        while conn.execute(MOVED).fetchone() != (True,):
            if first.poll() is not None:
                sys.exit("the migration ended before it was killed")
            time.sleep(0.1)
    first.kill()
    first.wait()
    killed = time.monotonic()
    subprocess.run(command, env=environment, check=True)
    return killed - started, time.monotonic() - killed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000)
    chunks = parser.parse_args().chunks
    print(machine())
    with scratch_fleet() as fleet, former_database(fleet, chunks) as url:
        print(f"{chunks:,} chunks of two collections at revision {FORMER}", flush=True)
        before = hits(url)
        reader = Reader(url, chunks // CHUNKS_PER_DOCUMENT // len(COLLECTIONS))
        reader.start()
        killed_s, rest_s = upgrade_twice(url)
        reader.end()
        print(f"killed after {killed_s:.0f} s, the rest took {rest_s:.0f} s")
        print(
            f"{reader.reads:,} reads beside it, {reader.wrong} wrong,"
            f" the longest {reader.longest_s:.2f} s"
        )
        with ef.Fleet(load_settings(database_url=url)) as upgraded:
            audits = [each.audit() for each in upgraded.collections()]
        same, clean = before == hits(url), all(each.clean for each in audits)
        waiting = sum(each.waiting for each in audits)
        print(f"hits as before: {same}; audit clean: {clean}, {waiting:,} texts wait")
    if reader.wrong or not (same and clean):
        sys.exit("something is not as before")


if __name__ == "__main__":
    main()

"""Search through the view: does it use the HNSW index, and is a filtered result complete?

Fills a collection with the fake model's vectors, builds the index, prints the plan, the time of a
search, what a search takes in the server beside the same scan of the bare table of vectors, and for
filters that keep 1 row in 10 to 1 in 10,000 how many of ten hits come back and what that takes,
without and with the index on metadata; and filters with ranges, without and with an index on their
field. It says nothing about recall: random vectors have no near neighbours to be found.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from psycopg import RawCursor

import embedfleet as ef
from _scratch import machine, scratch_fleet
from embedfleet_schema.database import Database
from embedfleet_schema.roles import set_up_roles
from embedfleet_schema.store.search import search
from embedfleet_workers.runtime import Launch, Runtime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEEP = (10, 100, 1_000, 10_000)
PAIRS = 5
SETTINGS = """
SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true),
    set_config('hnsw.ef_search', '100', true)
"""
BARE = """
SELECT text_id, embedding OPERATOR(public.<=>) $1::public.vector AS distance
FROM embedfleet.{}
ORDER BY embedding OPERATOR(public.<=>) $1::public.vector
LIMIT 10
"""


def fill(fleet: ef.Fleet, docs: ef.Collection, count: int) -> None:
    """Documents with a key for each filter; the worker runs in this process."""
    docs.enqueue(ef.Document(f"d{n}", f"text number {n}", _metadata(n)) for n in range(count))
    runtime = Runtime(fleet.settings, Launch(("cpu",), 1, 1))
    runtime.start()
    while runtime.run_one("cpu") != "idle":
        pass
    runtime.stop()


def _metadata(number: int) -> dict[str, object]:
    marks: dict[str, object] = {f"in_{keep}": number % keep for keep in KEEP}
    return marks | {"number": number, "day": f"2{number % 1_000:03}-01-01"}


def plan(db: Database, docs: ef.Collection, vector: str) -> list[str]:
    nearest = f"SELECT id FROM embedfleet.{docs.name} ORDER BY embedding <=> %s::vector LIMIT 10"
    with db.transaction() as conn:
        conn.execute("SET LOCAL search_path = public")
        conn.execute("SET LOCAL hnsw.iterative_scan = relaxed_order")
        rows = conn.execute(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {nearest}", (vector,))
        return [re.sub(r"'\[[^]]*\]'::vector", "$1", line) for (line,) in rows]


def server_ms(db: Database) -> float:
    """Processor time of the sessions so far; Linux counts it in nanoseconds."""
    sessions = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
    with db.transaction() as conn:
        pids = [pid for (pid,) in conn.execute(sessions)]
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e6


def beside_bare(fleet: ef.Fleet, docs: ef.Collection, queries: list[NDArray[np.float32]]) -> None:
    """In turns, in the steady state: a search in the role `search`, and one of the bare table."""
    url = fleet.settings.database
    set_up_roles(url)
    with fleet.db.transaction() as conn:
        conn.execute("CREATE ROLE reader LOGIN PASSWORD 'reader' IN ROLE embedfleet_search")
    address = urlsplit(url)
    login = address._replace(netloc=f"reader:reader@{address.hostname}:{address.port}").geturl()
    with (
        closing(Database(url, max_connections=1)) as owner,
        closing(Database(login, max_connections=1)) as reader,
    ):
        for turn in range(PAIRS + 1):
            pairs = [
                (
                    spent(owner, partial(search_bare, owner, docs, each)),
                    spent(reader, partial(search, reader, docs.info, each)),
                )
                for each in queries
            ]
            table, view = (statistics.median(side) for side in zip(*pairs, strict=True))
            if turn:  # before that, statements are not prepared yet
                print(f"  {view:.2f} ms, the bare table {table:.2f} ms, ratio {view / table:.2f}")


def search_bare(db: Database, docs: ef.Collection, vector: NDArray[np.float32]) -> None:
    with db.transaction() as conn, RawCursor(conn) as cursor:
        cursor.execute(SETTINGS)
        cursor.execute(BARE.format(docs.info.vectors), (str(vector.tolist()),)).fetchall()


def spent(db: Database, work: Callable[[], object]) -> float:
    """What a session of the server worked for it, in milliseconds of a processor."""
    with db.transaction() as conn:
        account = Path(f"/proc/{conn.info.backend_pid}/schedstat")
    before = int(account.read_text().split()[0])
    work()
    time.sleep(0.001)  # until it waits again
    return (int(account.read_text().split()[0]) - before) / 1e6


def filtered(fleet: ef.Fleet, docs: ef.Collection, queries: list[NDArray[np.float32]]) -> None:
    for keep in KEEP:
        times, sizes = [], []
        for query in queries:
            before = server_ms(fleet.db)
            sizes.append(len(docs.search(query, where={f"in_{keep}": 7})))
            times.append(server_ms(fleet.db) - before)
        times.sort()
        print(
            f"  1 row in {keep:>6,}: {statistics.median(times):6.1f} ms of the server's processor,"
            f" 95% within {times[int(0.95 * len(times))]:6.1f} ms; least hits of 10: {min(sizes)}"
        )


def ranges(docs: ef.Collection, queries: list[NDArray[np.float32]], count: int) -> None:
    """Filters that compare, with and without an index on their field, in turns."""
    filters: dict[str, dict[str, object]] = {
        "the highest 100 numbers": {"number": {"gte": count - 100}},
        "one in 1,000 dates": {"day": {"gte": "2999-01-01"}},
        "nine numbers of ten": {"number": {"gte": count // 10}},
    }
    for _ in range(2):
        for wanted in (False, True):
            docs.index_field("number", wanted=wanted)
            docs.index_field("day", "date", wanted=wanted)
            for name, where in filters.items():
                times = []
                for query in queries:
                    began = time.perf_counter()
                    docs.search(query, k=10, where=where)
                    times.append(1e3 * (time.perf_counter() - began))
                how = "with" if wanted else "without"
                print(f"{name}, {how} an index: median {statistics.median(times):.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=20_000)
    parser.add_argument("--dimensions", type=int, default=384)
    given = parser.parse_args()
    count = given.vectors
    print(machine())
    with scratch_fleet(batch_tokens_cpu=8_192) as fleet:
        docs = fleet.collection("docs", model=f"fake/{given.dimensions}")
        fill(fleet, docs, count)
        started = time.monotonic()
        docs.index(filters=False)
        print(f"index over {docs.counts().vectors:,} vectors: {time.monotonic() - started:.1f} s")
        queries = [docs.embed_query(f"question {n}") for n in range(20)]
        lines = plan(fleet.db, docs, str(queries[0].tolist()))
        print("\n".join(lines))
        print("index used:", any("Index Scan using" in x and "hnsw" in x for x in lines))
        times = []
        for query in queries:
            started = time.monotonic()
            docs.search(query, k=10)
            times.append(time.monotonic() - started)
        print(f"search of ten: median {statistics.median(times) * 1e3:.1f} ms")
        print("a search in the role `search`, by the server's processor:")
        beside_bare(fleet, docs, queries)
        for indexed in (False, True):
            docs.index_filters(wanted=indexed)
            print("filters,", "with the index on metadata" if indexed else "without an index")
            filtered(fleet, docs, queries)
        ranges(docs, queries, count)


if __name__ == "__main__":
    main()

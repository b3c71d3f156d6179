"""Search through the view: does it use the HNSW index, and is a filtered result complete?

Fills a collection with the fake model's vectors, builds the index, prints the plan, the time of a
search, and how many of ten hits come back when a filter keeps 1 in 100. It says nothing about
recall: random vectors have no near neighbours to be found.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time

import numpy as np

import embedfleet as ef
from _scratch import machine, scratch_fleet
from embedfleet_schema.database import Database
from embedfleet_workers.runtime import Launch, Runtime


def fill(fleet: ef.Fleet, docs: ef.Collection, count: int) -> None:
    """Documents in 100 groups; the worker runs in this process."""
    docs.enqueue(ef.Document(f"d{n}", f"text number {n}", {"group": n % 100}) for n in range(count))
    runtime = Runtime(fleet.settings, Launch(("cpu",), 1, 1))
    runtime.start()
    while runtime.run_one("cpu") != "idle":
        pass
    runtime.stop()


def plan(db: Database, docs: ef.Collection, vector: str) -> list[str]:
    statement = docs.search_sql(k=10).replace("$1", f"'{vector}'::vector")
    with db.transaction() as conn:
        conn.execute("SET LOCAL search_path = public")
        conn.execute("SET LOCAL hnsw.iterative_scan = relaxed_order")
        rows = conn.execute(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {statement}")
        return [re.sub(r"'\[[^]]*\]'::vector", "$1", line) for (line,) in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=20_000)
    count = parser.parse_args().vectors
    print(machine())
    with scratch_fleet(batch_tokens_cpu=8_192) as fleet:
        docs = fleet.collection("docs", model="fake/384")
        fill(fleet, docs, count)
        started = time.monotonic()
        docs.index()
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
        sizes = [len(docs.search(query, where={"group": 7})) for query in queries]
        print(f"hits of 10 with a filter that keeps 1%: least {min(sizes)}, mean {np.mean(sizes)}")


if __name__ == "__main__":
    main()

"""Search through the view: does it use the HNSW index, and is a filtered result complete?

Fills a collection with clustered vectors, builds the index, prints the plan, the recall of the
first ten against an exact scan, and how many of ten hits come back when a filter keeps 1 in 100.
"""

from __future__ import annotations

import argparse
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
        conn.execute("SET LOCAL hnsw.iterative_scan = relaxed_order")
        rows = conn.execute(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {statement}")
        return [line for (line,) in rows]


def exact(db: Database, docs: ef.Collection, vector: str) -> set[int]:
    with db.transaction() as conn:
        conn.execute("SET LOCAL enable_indexscan = off")
        rows = conn.execute(
            f"SELECT id FROM embedfleet.{docs.name} ORDER BY embedding <=> '{vector}' LIMIT 10"
        )
        return {chunk for (chunk,) in rows}


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
        texts = [str(query.tolist()) for query in queries]
        lines = plan(fleet.db, docs, texts[0])
        print("\n".join(lines))
        print("index used:", any("Index Scan using" in x and "hnsw" in x for x in lines))
        found = [{hit.id for hit in docs.search(query)} for query in queries]
        recall = [
            len(ids & exact(fleet.db, docs, text)) / 10
            for ids, text in zip(found, texts, strict=True)
        ]
        print(f"recall@10 against an exact scan: {statistics.mean(recall):.3f}")
        sizes = [len(docs.search(query, where={"group": 7})) for query in queries]
        print(f"hits of 10 with a filter that keeps 1%: least {min(sizes)}, mean {np.mean(sizes)}")


if __name__ == "__main__":
    main()

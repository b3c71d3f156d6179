"""Searches while two workers ingest at full speed, with a model that costs nothing.

A collection with an HNSW index is searched by vector, ten hits at a time, at first alone and then
while another process enqueues as fast as it can and two workers store what it enqueues. Prints the
median and the 95th percentile of both, and how many chunks went live meanwhile. With the latter
searches should take at most three times as long as alone, or 10 ms.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import embedfleet as ef
from _scratch import machine, scratch_fleet, workers
from pipeline import chunks, documents

MODEL = "fake/384"
AT_ONCE = 4_000
MOST_MS = 10.0


def enqueue_without_end(data: Path) -> None:
    """What the other process does; it is killed at the end."""
    with ef.connect(data=data) as fleet:
        docs = fleet.collection("docs")
        seed = 1
        while True:
            seed += 1
            found = documents(chunks(AT_ONCE, seed))
            docs.enqueue(
                ef.Document(f"{seed}-{each.key}", chunks=each.chunks) for each in found
            ).wait()


@contextmanager
def ingesting(fleet: ef.Fleet) -> Iterator[None]:
    data = str(fleet.settings.data)
    process = subprocess.Popen([sys.executable, __file__, "--enqueue-into", data])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def searched(docs: ef.Collection, queries: Sequence[NDArray[np.float32]]) -> list[float]:
    """Milliseconds of each search, in ascending order."""
    taken = []
    for query in queries:
        started = time.perf_counter()
        assert len(docs.search(query, k=10)) == 10
        taken.append((time.perf_counter() - started) * 1e3)
    return sorted(taken)


def p95(taken: Sequence[float]) -> float:
    return taken[int(0.95 * len(taken))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=20_000)
    parser.add_argument("--searches", type=int, default=500)
    parser.add_argument("--enqueue-into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.enqueue_into:
        enqueue_without_end(options.enqueue_into)
    print(machine())
    with scratch_fleet() as fleet, workers(fleet, 2):
        docs = fleet.collection("docs", model=MODEL)
        docs.enqueue(documents(chunks(options.vectors, 1))).wait()
        docs.index(filters=False)
        queries = [docs.embed_query(f"question {n}") for n in range(options.searches)]
        searched(docs, queries[:20])
        alone = searched(docs, queries)
        before = docs.counts().vectors
        with ingesting(fleet):
            while docs.counts().vectors == before:
                time.sleep(0.1)
            before, started = docs.counts().vectors, time.monotonic()
            busy = searched(docs, queries)
            stored, seconds = docs.counts().vectors - before, time.monotonic() - started
        for name, taken in (("alone", alone), ("while ingesting", busy)):
            print(f"{name}: median {statistics.median(taken):.1f} ms, p95 {p95(taken):.1f} ms")
        print(f"meanwhile {stored / seconds:,.0f} chunks/s were stored")
        limit = max(3 * p95(alone), MOST_MS)
        print(f"p95 {p95(busy):.1f} ms, at most {limit:.1f} ms wanted")


if __name__ == "__main__":
    main()

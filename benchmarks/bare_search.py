"""A search of a large collection, beside the same statement typed by hand.

Fills a collection with random vectors around 200 centers, builds the HNSW index, and asks
`embedfleet.search` and the statement over the view in turns, with the same settings, on one
connection; and the whole of `Collection.search` from Python. Printed are the medians, the 95th
percentiles, what the server's processor worked, and the ratios of the medians. `--storage halfvec`
takes half the memory.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import LiteralString

import numpy as np
import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from _index_vectors import clustered
from _scratch import machine, scratch_fleet
from indexes import insert, settle

BY_FUNCTION: LiteralString = """
SELECT id, document, position, content, metadata, score
FROM embedfleet.search('docs', %s, 10)
"""
BY_HAND: LiteralString = """
SELECT id, document, position, content, metadata, 1 - (embedding <=> %(vector)s::TYPE) AS score
FROM embedfleet.docs
ORDER BY embedding <=> %(vector)s::TYPE
LIMIT 10
"""
# What a search sets.
SETTINGS: LiteralString = """
SET hnsw.iterative_scan = relaxed_order;
SET hnsw.ef_search = 100;
SET hnsw.max_scan_tuples = 20000;
SET hnsw.scan_mem_multiplier = 1000
"""
# The next part of what is stored.
PART = 20_000
WARM = 40


class Times:
    """Of one way: by the clock, and by the server's processor, which other work on the machine
    changes little; in milliseconds.
    """

    def __init__(self) -> None:
        self.clock: list[float] = []
        self.processor: list[float] = []

    def take(self, work: Callable[[], object], account: Path | None = None) -> None:
        before = 0 if account is None else spent(account)
        began = time.perf_counter()
        work()
        self.clock.append(1e3 * (time.perf_counter() - began))
        if account is not None:
            time.sleep(0.001)  # until the session waits again
            self.processor.append((spent(account) - before) / 1e6)

    def report(self, name: str, base: Times | None = None) -> None:
        p50, p95 = np.quantile(self.clock, [0.5, 0.95])
        said = f"  {name:<40} p50 {p50:6.2f} ms, p95 {p95:6.2f} ms"
        if self.processor:
            said += f", of a processor {np.median(self.processor):5.2f} ms"
        if base is not None:
            ratio = np.median(self.clock) / np.median(base.clock)
            said += f"; {ratio:.2f} times as long as by hand"
            if self.processor:
                said += (
                    f", {np.median(self.processor) / np.median(base.processor):.2f} of a processor"
                )
        print(said)


def spent(account: Path) -> int:
    """Nanoseconds of a processor so far."""
    return int(account.read_text().split()[0])


def by_turns(
    ways: dict[str, Callable[[str], object]], vectors: list[str], account: Path
) -> dict[str, Times]:
    for text in vectors[:WARM]:
        for way in ways.values():
            way(text)
    times = {name: Times() for name in ways}
    for number, text in enumerate(vectors):
        # Who goes first has to bring the pages in.
        order = list(ways) if number % 2 else list(reversed(ways))
        for name in order:
            times[name].take(partial(ways[name], text), account)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=20_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--storage", choices=["vector", "halfvec"], default="vector")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--memory", type=int, help="MB for the build of the index")
    given = parser.parse_args()
    print(machine())
    with scratch_fleet() as fleet:
        docs = fleet.collection(
            "docs", model=f"fake/{given.dimensions}", storage=given.storage, filter_index=False
        )
        stored = clustered(given.vectors + given.questions, given.dimensions)
        vectors, questions = stored[: given.vectors], stored[given.vectors :]
        began = time.monotonic()
        for start in range(0, given.vectors, PART):
            part = vectors[start : start + PART]
            insert(fleet, docs, part, np.zeros(len(part), dtype=np.bool_), start)
        settle(fleet, docs)
        print(f"{given.vectors:,} rows in {time.monotonic() - began:.0f} s")
        began = time.monotonic()
        docs.index(filters=False, memory_mb=given.memory)
        print(f"the index in {time.monotonic() - began:.0f} s: {docs.index_info().index}")
        texts = [str(each.tolist()) for each in questions]
        statement = BY_HAND.replace("TYPE", given.storage)
        with psycopg.connect(fleet.settings.database, autocommit=True) as conn:
            conn.execute(SETTINGS)
            times = by_turns(
                {
                    "by hand, planned at each call": lambda text: ask(
                        conn, statement, {"vector": text}, prepared=False
                    ),
                    "by hand, prepared": lambda text: ask(
                        conn, statement, {"vector": text}, prepared=True
                    ),
                    "embedfleet.search": lambda text: ask(
                        conn, BY_FUNCTION, [text], prepared=False
                    ),
                    "embedfleet.search, prepared": lambda text: ask(
                        conn, BY_FUNCTION, [text], prepared=True
                    ),
                },
                texts,
                Path(f"/proc/{conn.info.backend_pid}/schedstat"),
            )
        base = times["by hand, planned at each call"]
        for name, each in times.items():
            each.report(name, None if each is base else base)
        whole = Times()
        for question in questions:
            whole.take(partial(docs.search, question))
        whole.report("Collection.search, with its transaction", base)


def ask(
    conn: Connection[TupleRow],
    statement: LiteralString,
    values: dict[str, str] | list[str],
    *,
    prepared: bool,
) -> None:
    conn.execute(statement, values, prepare=prepared).fetchall()


if __name__ == "__main__":
    main()

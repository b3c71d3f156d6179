"""What a collection costs as it grows: chunks/s, and for each chunk the processor's time and the
bytes of the write-ahead log and of disk.

Ready-made short chunks, the fake model, a producer and a worker in this process. The log is looked
at right after a checkpoint, when PostgreSQL writes each page whole that is touched, and later.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from typing import Any

import embedfleet as ef
from _scratch import fleet_processor_s, machine, scratch_fleet
from embedfleet_workers.runtime import Launch, Runtime
from producer_rate import WORDS

CHUNKS_PER_DOCUMENT = 20
STEP = 10_000


def documents(first: int, chunks: int) -> Iterator[ef.Document]:
    """So many distinct chunks of about 80 characters, from one number on."""
    for number in range(first, first + chunks, CHUNKS_PER_DOCUMENT):
        rng = random.Random(number)
        texts = [
            f"{number + n} " + " ".join(rng.choices(WORDS, k=12))
            for n in range(CHUNKS_PER_DOCUMENT)
        ]
        yield ef.Document(f"doc-{number}", chunks=texts)


class Growth:
    """A collection that grows, and what that took."""

    def __init__(self, fleet: ef.Fleet, *, filter_index: bool) -> None:
        self.fleet = fleet
        self.docs = fleet.collection("docs", model="fake/32", filter_index=filter_index)
        self.chunks = 0
        self._worker = Runtime(fleet.settings, Launch(("cpu",), 1, 1))
        self._worker.start()

    def close(self) -> None:
        self._worker.stop()

    def grow(self, chunks: int) -> str:
        """Add chunks; returns what they cost."""
        before, started = self._ask("SELECT pg_current_wal_lsn()"), time.monotonic()
        spent = fleet_processor_s(self.fleet)
        self.docs.enqueue(documents(self.chunks, chunks))
        while self._worker.run_one("cpu") != "idle":
            pass
        seconds = time.monotonic() - started
        self.chunks += chunks
        written = self._ask("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s)", before)
        each_us = (fleet_processor_s(self.fleet) - spent) / chunks * 1e6
        return (
            f"{chunks / seconds:6,.0f} chunks/s, {each_us:5.1f} us of processor and "
            f"{float(written) / chunks:6,.0f} B of log each"
        )

    def checkpoint(self) -> None:
        self._ask("CHECKPOINT")

    def bytes_on_disk(self) -> int:
        """Of all tables with their indexes; what was removed is cleared away first."""
        with self.fleet.db.direct() as conn:
            conn.execute("VACUUM")
        return int(
            self._ask(
                "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
                " WHERE relnamespace = 'embedfleet'::regnamespace AND relkind = 'r'"
            )
        )

    def _ask(self, statement: str, *values: object) -> Any:
        with self.fleet.db.transaction() as conn:
            cursor = conn.execute(statement, values)
            row = cursor.fetchone() if cursor.description else None
        return None if row is None else row[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=2_000_000)
    parser.add_argument("--no-filter-index", action="store_true")
    given = parser.parse_args()
    most = given.chunks
    print(machine())
    with scratch_fleet(batch_tokens_cpu=16_384) as fleet:
        growth = Growth(fleet, filter_index=not given.no_filter_index)
        growth.grow(100_000 - 5 * STEP)
        cost = growth.grow(5 * STEP)
        print(f"at {growth.chunks:>9,} chunks: {cost}", flush=True)
        while growth.chunks < most:
            growth.grow(min(200_000, most - growth.chunks))
        growth.checkpoint()
        print(f"after a checkpoint:  {growth.grow(STEP)}")
        growth.grow(15 * STEP)
        cost = growth.grow(5 * STEP)
        print(f"at {growth.chunks:>9,} chunks: {cost}")
        print(f"on disk: {growth.bytes_on_disk() / growth.chunks:,.0f} B per chunk")
        growth.close()


if __name__ == "__main__":
    main()

"""Producer: small documents from a generator, tokens counted by a real tokenizer.

Prints, for each number of processes, documents/s, the microseconds of processor time that a
document takes in the producer, in the processes that cut for it and in PostgreSQL, and the memory
of the producer: it should be flat, at most 300 MB. Several numbers of processes run in turns.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import embedfleet as ef
from _scratch import Server, machine, scratch_fleet

WORDS = "fleet worker vector queue batch token limit index chunk retry lease commit table".split()
WARM_UP = 2_000


class Run(NamedTuple):
    """What a run took: wall seconds, seconds of processor time, and megabytes by window."""

    wall: float
    producer: float
    cutters: float
    postgres: float
    memory: list[float]


def documents(count: int, words: int) -> Iterator[ef.Document]:
    """Distinct texts of about six tokens more than they have words."""
    rng = random.Random(7)
    for number in range(count):
        text = f"Document {number}: " + " ".join(rng.choices(WORDS, k=words))
        yield ef.Document(f"doc-{number}", text, {"number": number})


def resident_mb() -> float:
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line
    )
    return int(line.split()[1]) / 1024


def run(fleet: ef.Fleet, server: Server, count: int, words: int, processes: int) -> Run:
    chunking = ef.Chunking(tokenizer="all-MiniLM-L6-v2")
    docs = fleet.collection("docs", model="fake/384", chunking=chunking)
    memory: list[float] = []
    postgres, before, started = server.processor_s(), os.times(), time.monotonic()
    job = docs.enqueue(
        documents(count, words),
        processes=processes,
        on_window=lambda _: memory.append(resident_mb()),
    )
    wall, after = time.monotonic() - started, os.times()
    status = job.status
    assert status.documents == count, status
    docs.drop()
    return Run(
        wall,
        after.user + after.system - before.user - before.system,
        after.children_user + after.children_system - before.children_user - before.children_system,
        server.processor_s() - postgres,
        memory,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--words", type=int, default=24)
    parser.add_argument("--processes", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    count = options.documents
    print(machine())
    with scratch_fleet() as fleet:
        server = Server(fleet)
        run(fleet, server, WARM_UP, options.words, 1)
        for number in range(1, options.rounds + 1):
            for processes in options.processes:
                done = run(fleet, server, count, options.words, processes)
                parts = [done.producer, done.cutters, done.postgres]
                producer, cutters, postgres = (part / count * 1e6 for part in parts)
                half = len(done.memory) // 2
                growth = max(done.memory[half:]) - max(done.memory[:half])
                print(
                    f"round {number}, {processes} processes: {count / done.wall:,.0f} documents/s; "
                    f"processor: producer {producer:.1f} + cutters {cutters:.1f} + PostgreSQL "
                    f"{postgres:.1f} = {sum(parts) / count * 1e6:.1f} us; memory: peak "
                    f"{max(done.memory):.0f} MB, in the second half {growth:+.0f} MB",
                    flush=True,
                )


if __name__ == "__main__":
    main()

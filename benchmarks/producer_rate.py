"""Producer: 200,000 small documents from a generator, tokens counted by a real tokenizer.

Prints documents/s and the producer's memory over time: the rate should be at least 3,000/s and the
memory flat, at most 300 MB.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from pathlib import Path

import embedfleet as ef
from _scratch import machine, scratch_fleet

WORDS = "fleet worker vector queue batch token limit index chunk retry lease commit table".split()


def documents(count: int) -> Iterator[ef.Document]:
    """Small distinct texts of about 30 tokens."""
    rng = random.Random(7)
    for number in range(count):
        text = f"Document {number}: " + " ".join(rng.choices(WORDS, k=24))
        yield ef.Document(f"doc-{number}", text, {"number": number})


def resident_mb() -> float:
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line
    )
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=200_000)
    count = parser.parse_args().documents
    print(machine())
    with scratch_fleet() as fleet:
        chunking = ef.Chunking(tokenizer="all-MiniLM-L6-v2")
        docs = fleet.collection("docs", model="fake/384", chunking=chunking)
        memory: list[float] = []
        started = time.monotonic()
        last = [0]

        def on_window(done: object) -> None:
            memory.append(resident_mb())
            taken = getattr(done, "documents", 0)
            if taken - last[0] >= count // 10:
                last[0] = taken
                rate = taken / (time.monotonic() - started)
                print(f"{taken:>9,} documents  {rate:8,.0f}/s  {memory[-1]:6.0f} MB", flush=True)

        job = docs.enqueue(documents(count), on_window=on_window)
        seconds = time.monotonic() - started
        status = job.status
        assert status.documents == count, status
        half = len(memory) // 2
        print(f"rate: {count / seconds:,.0f} documents/s over {seconds:.1f} s")
        print(f"memory: peak {max(memory):.0f} MB; second half of the run grew by "
              f"{max(memory[half:]) - max(memory[:half]):+.0f} MB")  # fmt: skip


if __name__ == "__main__":
    main()

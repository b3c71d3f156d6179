"""The vector of a text from SQL, and a search by text: how long somebody waits who asks workers.

Two worker processes have the model loaded. One connection calls `embedfleet.embed` for texts that
are new, then for the same ones from the cache, then for new ones while both workers embed documents
as fast as they can. Beside that stands what the model alone takes for such a text in this process.
At the end, the whole command `embedfleet search` is run again and again, with the workers, and
without one, so that it loads the model.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable

import psycopg

import embedfleet as ef
from _scratch import machine, scratch_fleet, workers
from embedfleet.stdlib_docs import documents
from embedfleet_workers.embedders import load_embedder

MODEL = "all-MiniLM-L6-v2"
CALL = "CALL embedfleet.embed('docs', %s, NULL)"


def timed(work: Callable[[str], object], texts: Iterable[str]) -> list[float]:
    """What each takes, in milliseconds."""
    found = []
    for text in texts:
        began = time.perf_counter()
        work(text)
        found.append((time.perf_counter() - began) * 1e3)
    return found


def report(name: str, found: list[float], unit: str = "ms") -> None:
    ordered = sorted(found)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg()[:1])
    print(
        f"{name}: p50 {statistics.median(found):.1f} {unit}, p95 {p95:.1f}, most {ordered[-1]:.1f}"
        f" ({len(found)} times, load {load})"
    )


def questions(word: str, count: int) -> list[str]:
    return [f"how do I {word} number {n} of a list without a loop?" for n in range(count)]


def embedding(docs: ef.Collection, over: threading.Event) -> Callable[[], None]:
    """Documents without end: each round has texts of its own."""

    def enqueue() -> None:
        number = 0
        while not over.is_set():
            number += 1
            some = [each for _, each in zip(range(400), documents(None), strict=False)]
            docs.enqueue(
                ef.Document(f"{number}-{each.key}", f"Round {number}. {each.text}") for each in some
            ).wait()

    return enqueue


def warmed(fleet: ef.Fleet, docs: ef.Collection, count: int) -> None:
    """Each worker has embedded something, and so has the model loaded."""
    number = 0
    while sum(":" in each.device for each in fleet.workers()) < count:
        number += 1
        docs.enqueue(
            ef.Document(f"w{number}-{n}", f"Reset list {number} of text {n}") for n in range(2_000)
        ).wait()


def of_command(docs: ef.Collection, texts: list[str]) -> tuple[list[float], list[float]]:
    """The whole command: what it takes, and what of that the processor, in seconds."""
    wall, processor = [], []
    for text in texts:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        command = [sys.executable, "-m", "embedfleet", "search", docs.name, text]
        subprocess.run(command, check=True, capture_output=True)
        wall.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return wall, processor


def by_sql(fleet: ef.Fleet, docs: ef.Collection, count: int) -> None:
    with fleet.db.transaction() as conn:
        conn.execute("UPDATE embedfleet.query_limit SET per_minute = 1000000")
    embedder = load_embedder(docs.info.space, device="cpu", threads=1)
    with psycopg.connect(fleet.settings.database, autocommit=True) as conn:

        def call(text: str) -> None:
            conn.execute(CALL, [text])

        call("the first one is slower")
        embedder.embed(["the first one is slower"], "query")
        new = questions("sort", count)
        report("the model alone", timed(lambda text: embedder.embed([text], "query"), new))
        report("a new text by SQL", timed(call, new))
        report("the same from the cache", timed(call, new))
        over = threading.Event()
        load = threading.Thread(target=embedding(docs, over))
        load.start()
        time.sleep(5)
        report("a new text while both embed", timed(call, questions("join", count)))
        over.set()
        load.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--commands", type=int, default=10)
    given = parser.parse_args()
    print(machine())
    with scratch_fleet() as fleet:
        docs = fleet.collection("docs", model=MODEL)
        os.environ["EMBEDFLEET_DATA"] = str(fleet.settings.data)
        with workers(fleet, 2):
            warmed(fleet, docs, 2)
            by_sql(fleet, docs, given.texts)
            wall, processor = of_command(docs, questions("find", given.commands))
            report("embedfleet search", wall, "s")
            report("  of that the processor", processor, "s")
        wall, processor = of_command(docs, questions("lose", given.commands))
        report("without a worker, which loads the model", wall, "s")
        report("  of that the processor", processor, "s")


if __name__ == "__main__":
    main()

"""What the pipeline itself costs: the whole system with a model that costs nothing.

Documents of eight chunks are enqueued while two worker processes are frozen, then these are let go.
Prints chunks/s and the microseconds of processor time that producer, PostgreSQL and workers spend
on a chunk, and compares the rate with one connection that copies the same rows into a bare table,
and, where an interpreter is named that has them, with `add_texts` of LangChain and with the
`IngestionPipeline` of LlamaIndex.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

import embedfleet as ef
from _scratch import Server, machine, processor_s, scratch_fleet, workers
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_workers.embedders.fake import fake_vectors
from producer_rate import WORDS

MODEL = "fake/384"
WORDS_PER_CHUNK = 107
CHUNKS_PER_DOCUMENT = 8
WARM_UP = 2_000
# It takes as long for each of many as for each of few.
RIVAL_CHUNKS = 4_000
RIVALS = ("langchain", "llamaindex")


class Spent(NamedTuple):
    """Wall seconds, and seconds of processor time by who spent them."""

    wall: float
    producer: float
    postgres: float
    workers: float


class Pipeline:
    """A fleet with two workers that can be frozen."""

    def __init__(self, fleet: ef.Fleet, pids: Sequence[int]) -> None:
        self.fleet = fleet
        self.workers = [psutil.Process(pid) for pid in pids]
        self.server = Server(fleet)

    def round(self, texts: Sequence[str]) -> tuple[Spent, Spent]:
        """What it took to enqueue, with the workers frozen, and then to embed."""
        docs = self.fleet.collection("docs", model=MODEL)
        given = documents(texts)
        with self._frozen():
            before = self._spent()
            job = docs.enqueue(given)
            enqueued = self._spent()
        while not job.status.finished:
            time.sleep(0.1)
        embedded = self._spent()
        found = docs.audit()
        assert (len(texts), 0) == (found.stored, found.missing), found
        docs.drop()
        return _between(before, enqueued), _between(enqueued, embedded)

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        for worker in self.workers:
            worker.suspend()
        try:
            yield
        finally:
            for worker in self.workers:
                worker.resume()

    def _spent(self) -> Spent:
        return Spent(
            time.monotonic(),
            time.process_time(),
            self.server.processor_s(),
            sum(map(processor_s, self.workers)),
        )


def _between(before: Spent, after: Spent) -> Spent:
    return Spent(*(late - early for early, late in zip(before, after, strict=True)))


def chunks(count: int, seed: int) -> list[str]:
    """Distinct texts of 110 tokens, as the fake model counts them."""
    rng = random.Random(seed)
    return [
        f"{seed}-{number} " + " ".join(rng.choices(WORDS, k=WORDS_PER_CHUNK))
        for number in range(count)
    ]


def documents(texts: Sequence[str]) -> list[ef.Document]:
    return [
        ef.Document(f"doc-{start}", chunks=texts[start : start + CHUNKS_PER_DOCUMENT])
        for start in range(0, len(texts), CHUNKS_PER_DOCUMENT)
    ]


def copied(fleet: ef.Fleet, texts: Sequence[str]) -> float:
    """Rows per second of one connection that copies texts and vectors into a bare table."""
    vectors = fake_vectors(resolve_space(MODEL), texts, "document")
    vector = f"{fleet.db.vector_schema}.vector"
    with fleet.db.transaction() as conn:
        conn.execute(f"CREATE TABLE public.bare (id bigint, content text, embedding {vector})")
    started = time.monotonic()
    with (
        fleet.db.transaction() as conn,
        conn.cursor() as cursor,
        cursor.copy("COPY public.bare FROM STDIN (FORMAT binary)") as copy,
    ):
        copy.set_types(["int8", "text", "vector"])
        for row in zip(range(len(texts)), texts, vectors, strict=True):
            copy.write_row(row)
    seconds = time.monotonic() - started
    with fleet.db.transaction() as conn:
        conn.execute("DROP TABLE public.bare")
    return len(texts) / seconds


def with_rival(rival: str, python: str, fleet: ef.Fleet, texts: Sequence[str]) -> dict[str, float]:
    """Rows per second of each of its stores."""
    script = Path(__file__).with_name(f"_{rival}_rival.py")
    printed = subprocess.run(
        [python, script, fleet.settings.database],
        input=json.dumps(texts),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    pairs = [line.split() for line in printed.splitlines()]
    return {name: len(texts) / float(seconds) for name, seconds in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for rival in RIVALS:
        parser.add_argument(f"--{rival}", metavar="PYTHON", help="an interpreter that has it")
    parser.add_argument("--chunks", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    count = options.chunks
    print(machine())
    with scratch_fleet() as fleet, workers(fleet, 2) as processes:
        pipeline = Pipeline(fleet, list(processes))
        pipeline.round(chunks(WARM_UP, 0))
        ratios: list[float] = []
        for number in range(1, options.rounds + 1):
            texts = chunks(count, number)
            bare = copied(fleet, texts)
            enqueue, embed = pipeline.round(texts)
            rate = count / (enqueue.wall + embed.wall)
            ratios.append(rate / bare)
            parts = [enqueue.producer, enqueue.postgres, embed.postgres, embed.workers]
            producer, enqueueing, embedding, working = (part / count * 1e6 for part in parts)
            print(
                f"round {number}: {rate:,.0f} chunks/s, bare copy {bare:,.0f} rows/s, ratio "
                f"{ratios[-1]:.3f}; enqueue {count / enqueue.wall:,.0f}/s, embed "
                f"{count / embed.wall:,.0f}/s; processor: producer {producer:.1f} + PostgreSQL "
                f"{enqueueing:.1f}, then PostgreSQL {embedding:.1f} + workers {working:.1f} = "
                f"{sum(parts) / count * 1e6:.1f} us",
                flush=True,
            )
            for rival in filter(vars(options).get, RIVALS):
                python = getattr(options, rival)
                rivals = with_rival(rival, python, fleet, texts[:RIVAL_CHUNKS])
                for name, other in rivals.items():
                    print(f"  {name} {other:,.0f} rows/s, whole system / this {rate / other:.1f}")
        print(f"whole system / bare copy: median {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()

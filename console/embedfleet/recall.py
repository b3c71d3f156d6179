"""How much a search by the index finds, and which setting makes it find more."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from embedfleet_schema.database import Database
from embedfleet_schema.errors import UsageError
from embedfleet_schema.store import recall, vector_index
from embedfleet_schema.store.recall import Question
from embedfleet_schema.store.vector_index import SearchSettings, VectorIndex
from embedfleet_schema.types import CollectionInfo

Setting = Literal["ef_search", "probes"]

DEFAULT_QUERIES, DEFAULT_TARGET = 100, 0.95
# Fewer queries in the cache say less than chunks do.
LEAST_QUERIES = 20
# pgvector takes no more candidates.
MOST_EF_SEARCH = 1_000
# Scores that differ by less are equal: float32 of two ways to add up.
SAME = 1e-6


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of a search as the client sees it: its median, and what 95 in 100 keep to."""

    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class RecallStep:
    """One value of the setting: the share of the exact hits that a search finds, and its time."""

    value: int | None
    recall: float
    latency: Latency


@dataclass(frozen=True, slots=True)
class Recall:
    """What `Collection.recall` found.

    `steps` has the present setting first (its value is None where nobody set one), then larger ones
    until the target was reached. `advised` is the least value that reached it; None where the
    present one does, and where none did.
    """

    collection: str
    k: int
    queries: int
    source: Literal["queries", "chunks"]
    index: VectorIndex
    target: float
    exact: Latency
    setting: Setting
    steps: Sequence[RecallStep]
    advised: int | None

    @property
    def recall(self) -> float:
        """With the present setting."""
        return self.steps[0].recall

    @property
    def latency(self) -> Latency:
        """With the present setting."""
        return self.steps[0].latency


def measure(
    db: Database, collection: CollectionInfo, *, k: int, queries: int, target: float
) -> Recall:
    """Ask each question exactly, then by the index with the present setting, then with larger ones
    until the target is reached. Nothing is written.

    Raises:
        UsageError: there is no index, or nothing to ask.
    """
    index = vector_index.in_use(db, collection)
    if index is None:
        reason = f"{collection.name} has no index, so each search is exact: embedfleet index"
        raise UsageError(reason=f"{reason} {collection.name}")
    questions, source = _questions(db, collection, queries)
    # Once for nothing: what is read for the first time takes longest.
    for question in questions[:5]:
        recall.hits(db, collection, question, k)
    exact, exact_latency = _exact(db, collection, questions, k)
    setting: Setting = "ef_search" if index.method == "hnsw" else "probes"
    steps: list[RecallStep] = []
    advised = None
    stored = vector_index.settings(db, collection)
    for value in (None, *_larger(index, stored)):
        steps.append(_step(db, collection, index, questions, exact, k, value))
        if steps[-1].recall >= target:
            advised = value
            break
    own = stored.ef_search if setting == "ef_search" else stored.probes
    steps[0] = RecallStep(own, steps[0].recall, steps[0].latency)
    return Recall(
        collection=collection.name,
        k=k,
        queries=len(questions),
        source=source,
        index=index,
        target=target,
        exact=exact_latency,
        setting=setting,
        steps=steps,
        advised=advised,
    )


def _questions(
    db: Database, collection: CollectionInfo, count: int
) -> tuple[list[Question], Literal["queries", "chunks"]]:
    asked = recall.asked(db, collection, count)
    if len(asked) >= min(count, LEAST_QUERIES):
        return asked, "queries"
    chunks = recall.chunks(db, collection, count)
    if not chunks:
        raise UsageError(reason=f"{collection.name} holds nothing that could be asked for")
    return chunks, "chunks"


def _exact(
    db: Database, collection: CollectionInfo, questions: Sequence[Question], k: int
) -> tuple[list[list[float]], Latency]:
    """The scores that are to be reached, by question."""
    scores, times = [], []
    for question in questions:
        began = time.perf_counter()
        found = recall.hits(db, collection, question, k, exact=True)
        times.append(time.perf_counter() - began)
        scores.append([score for _, score in found])
    return scores, _latency(times)


def _step(
    db: Database,
    collection: CollectionInfo,
    index: VectorIndex,
    questions: Sequence[Question],
    exact: Sequence[Sequence[float]],
    k: int,
    value: int | None,
) -> RecallStep:
    """A hit counts if it is as near as the last of the exact ones: of equals any will do."""
    name = "hnsw.ef_search" if index.method == "hnsw" else "ivfflat.probes"
    right = wanted = 0
    times = []
    for question, scores in zip(questions, exact, strict=True):
        began = time.perf_counter()
        setting = None if value is None else (name, value)
        found = recall.hits(db, collection, question, k, setting=setting)
        times.append(time.perf_counter() - began)
        if scores:
            right += sum(score >= scores[-1] - SAME for _, score in found)
            wanted += len(scores)
    return RecallStep(value, right / wanted if wanted else 1.0, _latency(times))


def _larger(index: VectorIndex, stored: SearchSettings) -> list[int]:
    """What to try next: each twice the one before."""
    if index.method == "hnsw":
        first = stored.ef_search or (400 if index.type == "bit" else 100)
        most = MOST_EF_SEARCH
    else:
        most = index.lists or 1
        first = stored.probes or math.ceil(2 * math.sqrt(most))
    values = [first]
    while values[-1] < most:
        values.append(min(most, 2 * values[-1]))
    return values[1:]


def _latency(times: Sequence[float]) -> Latency:
    p50, p95 = np.percentile(times, [50, 95]) * 1e3
    return Latency(float(p50), float(p95))

"""What searches give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result. `score` grows with similarity (for l2 it is minus the distance)."""

    id: int
    document: str
    position: int
    content: str
    metadata: dict[str, Any]
    score: float


@dataclass(frozen=True, slots=True)
class RerankedHit(Hit):
    """A hit with what a reranker says; `score` is that of the search."""

    rerank_score: float


@dataclass(frozen=True, slots=True)
class SimilarDocument:
    """A document that is like another one: its chunk nearest to that of the other one which is
    at `own_position`.
    """

    id: int
    document: str
    position: int
    own_position: int
    content: str
    metadata: dict[str, Any]
    score: float


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two chunks that are nearly the same; `cluster` is the least chunk of all such together."""

    cluster: int
    id: int
    document: str
    position: int
    other_id: int
    other_document: str
    other_position: int
    score: float

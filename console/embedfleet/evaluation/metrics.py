"""nDCG, recall and reciprocal rank of one ranking, as trec_eval and ir-measures define them.

A grade above 0 means relevant. Gains are the grades themselves, and the discount of rank r is
log2(r + 1) (Järvelin and Kekäläinen 2002), which is what trec_eval calls ndcg_cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log2

NDCG_CUT = 10


@dataclass(frozen=True, slots=True)
class QueryScore:
    """What one query found: nDCG@10, recall@k and the reciprocal of the first relevant rank."""

    query: str
    ndcg: float
    recall: float
    reciprocal_rank: float


def score(query: str, ranked: Sequence[str], grades: Mapping[str, int], *, k: int) -> QueryScore:
    """A ranking of documents, best first and each once, against the grades of one query.

    Where no document is relevant, all three are 0, as trec_eval has it.
    """
    relevant = {document for document, grade in grades.items() if grade > 0}
    first = next((rank for rank, each in enumerate(ranked, 1) if each in relevant), 0)
    best = _gained(sorted((grades[each] for each in relevant), reverse=True))
    return QueryScore(
        query,
        ndcg=_gained(max(grades.get(each, 0), 0) for each in ranked) / best if best else 0.0,
        recall=len(relevant.intersection(ranked[:k])) / len(relevant) if relevant else 0.0,
        reciprocal_rank=1 / first if first else 0.0,
    )


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _gained(grades: Iterable[int]) -> float:
    """The discounted cumulative gain of the first ten ranks."""
    ranks = zip(range(1, NDCG_CUT + 1), grades, strict=False)
    return sum(grade / log2(rank + 1) for rank, grade in ranks)

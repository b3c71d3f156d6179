"""The searches of one collection against judgements, or against sentences of its own documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from embedfleet.connections import Connections
from embedfleet.evaluation.judgements import Judgements, Queries
from embedfleet.evaluation.known_items import known_items
from embedfleet.evaluation.metrics import NDCG_CUT, QueryScore, mean, score
from embedfleet.evaluation.rankings import ranking
from embedfleet_schema.errors import UnreadableQuery, UsageError
from embedfleet_schema.store import samples
from embedfleet_schema.types import CollectionInfo

EXAMPLES = 3

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good the searches of a collection are: means over `queries` queries.

    Documents are judged: each counts by its best chunk. `ndcg` is cut at rank 10, `recall` at rank
    `k`, and `mrr` (the mean reciprocal rank) at the larger of both. `known_items`: nobody judged;
    the queries are sentences of the documents that they have to find.

    `without_judgement` queries were left out, and `without_text` judged ones of which there is no
    query. Of what is relevant, `missing` documents are not in the collection: they count as not
    found. So does all that the queries look for that the model cannot read (`unreadable`).
    """

    collection: str
    model: str
    hybrid: bool
    known_items: bool
    k: int
    queries: int
    ndcg: float
    recall: float
    mrr: float
    relevant: int
    missing: int
    without_judgement: int
    without_text: int
    unreadable: int
    scores: list[QueryScore] = field(repr=False)


def evaluate(
    connections: Connections,
    collection: CollectionInfo,
    queries: Queries | None,
    judgements: Judgements | None,
    *,
    k: int,
    hybrid: bool,
    sample: int,
    tell: Tell,
) -> Evaluation:
    """Search for each judged query, or without queries for sentences of `sample` documents.

    Raises:
        UsageError: no query is judged, or the collection has none of what is relevant.
        CollectionGone: it was dropped.
    """
    drawn = queries is None or judgements is None
    if queries is None or judgements is None:
        keys = samples.drawn_keys(connections.db, collection, sample)
        stored = samples.documents(connections.db, collection, keys, offsets=False)
        queries, judgements = known_items((key, [c.content for c in cs]) for key, cs in stored)
        if not queries:
            raise UsageError(reason=f"{collection.name} has no live documents to be searched for")
    asked = {key: queries[key] for key in judgements if key in queries}
    if not asked:
        raise UsageError(reason=_no_query(queries, judgements))
    wanted = {each: judgements[each] for each in asked}
    grades, relevant, missing = _as_stored(connections, collection, wanted)
    found, unreadable = _scores(connections, collection, asked, grades, k, hybrid, tell)
    return Evaluation(
        collection=collection.name,
        model=collection.space.name,
        hybrid=hybrid,
        known_items=drawn,
        k=k,
        queries=len(found),
        ndcg=mean([each.ndcg for each in found]),
        recall=mean([each.recall for each in found]),
        mrr=mean([each.reciprocal_rank for each in found]),
        relevant=relevant,
        missing=missing,
        without_judgement=len(queries.keys() - judgements.keys()),
        without_text=len(judgements.keys() - queries.keys()),
        unreadable=unreadable,
        scores=found,
    )


def _scores(
    connections: Connections,
    collection: CollectionInfo,
    asked: Queries,
    grades: Judgements,
    k: int,
    hybrid: bool,
    tell: Tell,
) -> tuple[list[QueryScore], int]:
    found, unreadable = [], 0
    for number, (key, text) in enumerate(asked.items(), 1):
        ranked: list[str] = []
        try:
            ranked = ranking(connections, collection, text, k=max(k, NDCG_CUT), hybrid=hybrid)
        except UnreadableQuery:
            unreadable += 1
        found.append(score(key, ranked, grades[key], k=k))
        tell(f"{number:,} of {len(asked):,} queries")
    return found, unreadable


def _as_stored(
    connections: Connections, collection: CollectionInfo, judgements: Judgements
) -> tuple[dict[str, dict[str, int]], int, int]:
    """The judgements by the keys that the collection has, and how many relevant documents there
    are, and are missing.

    Raises:
        UsageError: all are missing.
    """
    relevant = {key for each in judgements.values() for key, grade in each.items() if grade > 0}
    judged = {key for each in judgements.values() for key in each}
    spelled = samples.live_keys(connections.db, collection, judged)
    missing = relevant - spelled.keys()
    if missing == relevant:
        raise UsageError(reason=_none_there(connections, collection, relevant))
    stored = {
        query: {spelled.get(key, key): grade for key, grade in each.items()}
        for query, each in judgements.items()
    }
    return stored, len(relevant), len(missing)


def _none_there(connections: Connections, collection: CollectionInfo, relevant: set[str]) -> str:
    if not relevant:
        return "the judgements call no document relevant: no grade is above 0"
    there = samples.drawn_keys(connections.db, collection, EXAMPLES)
    if not there:
        return f"{collection.name} has no live documents"
    return (
        f"{collection.name} has none of the relevant documents. Their keys are such as"
        f" {_named(relevant)}, and those of the collection are such as {_named(there)}. Enqueue"
        " the documents under the keys of the judgements"
    )


def _no_query(queries: Queries, judgements: Judgements) -> str:
    return (
        f"none of the queries ({_named(queries)}, ...) is judged: the judgements are for"
        f" {_named(judgements)}, ..."
    )


def _named(keys: Mapping[str, object] | set[str] | list[str]) -> str:
    return ", ".join(repr(key) for key in sorted(keys)[:EXAMPLES])

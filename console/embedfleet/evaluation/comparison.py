"""Models and sizes of chunks side by side, over a sample of what a collection holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from embedfleet.connections import Connections
from embedfleet.evaluation.evaluate import Evaluation, Tell, evaluate
from embedfleet.evaluation.judgements import Judgements, Queries
from embedfleet.evaluation.known_items import known_items
from embedfleet.evaluation.resampled import document
from embedfleet.evaluation.scratch import comparing, made
from embedfleet.planning import named_space
from embedfleet_producer.chunking import settled
from embedfleet_schema.catalogue import api_models
from embedfleet_schema.errors import UsageError
from embedfleet_schema.store import plans, samples
from embedfleet_schema.store.usage import TOKENS_PER_PRICE
from embedfleet_schema.types import Chunking, CollectionInfo, Document, Space

if TYPE_CHECKING:
    from embedfleet.collection import Collection
    from embedfleet.job import Job

# Queries that are made where nobody judged.
KNOWN_ITEMS = 200

Wait = Callable[["Job"], object]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model, and a size of chunks."""

    space: Space
    chunking: Chunking


@dataclass(frozen=True, slots=True)
class Compared:
    """What a model and a size of chunks came to over the sample.

    `chunks_per_s` is the fleet's speed without the loading of the model; None where it embedded no
    more than one batch per worker. `bytes_per_chunk` is what all tables and their indexes take on
    disk, without an HNSW index. `usd` is the price of the sample's tokens; None where it is not
    known. Of the `documents`, `ready_made` came in chunks of their own: no size cuts them anew.
    `failed` chunks cannot be embedded by the model.
    """

    model: str
    dimensions: int
    size: int
    documents: int
    ready_made: int
    chunks: int
    failed: int
    evaluation: Evaluation
    chunks_per_s: float | None
    bytes_per_chunk: float
    tokens: int
    usd: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """Documents of a collection with what is asked of them."""

    documents: list[Document]
    queries: Queries
    judgements: Judgements
    known_items: bool


def candidates(
    collection: CollectionInfo, models: Sequence[str], sizes: Sequence[int]
) -> list[Candidate]:
    """Each model with each size; what is not named is the collection's own.

    Raises:
        BadModelName, ModelNotFound, BadChunking: before anything is made.
    """
    spaces = [named_space(each) for each in models] or [collection.space]
    # The sample comes without the metadata of its documents, from which a template would be filled.
    own = replace(collection.chunking, template="")
    # A tokenizer that was named belongs to the collection's model.
    own = replace(own, tokenizer="") if models else own
    cuts = [replace(own, size=size) for size in sizes] or [own]
    return [Candidate(space, settled(space, cut)) for space, cut in product(spaces, cuts)]


def compare(
    connections: Connections,
    collection: CollectionInfo,
    wanted: Sequence[Candidate],
    queries: Queries | None,
    judgements: Judgements | None,
    *,
    sample: int,
    k: int,
    hybrid: bool,
    wait: Wait,
    tell: Tell,
) -> list[Compared]:
    """Embed a sample with each candidate, in a collection that is dropped at the end, and search.

    Raises:
        UsageError: another comparison runs, nothing is judged, or there are no documents.
        NoWorker, JobPaused: the sample is not embedded.
    """
    drawn = _sample(connections, collection, queries, judgements, sample)
    found = []
    with comparing(connections):
        for number, each in enumerate(wanted, 1):
            tell(f"{each.space.name}, chunks of {each.chunking.size} tokens")
            scratch = made(connections, number, each.space, each.chunking)
            wait(scratch.enqueue(drawn.documents))
            found.append(_measured(connections, scratch, each, drawn, k=k, hybrid=hybrid))
    return found


def _measured(
    connections: Connections,
    scratch: Collection,
    candidate: Candidate,
    drawn: Sample,
    *,
    k: int,
    hybrid: bool,
) -> Compared:
    counts = scratch.counts()
    texts, tokens = samples.weight(connections.db, scratch.info)
    speed = plans.speed(connections.db, candidate.space)
    price = api_models.price_of(candidate.space.name, connections.settings.prices)
    evaluation = evaluate(
        connections,
        scratch.info,
        drawn.queries,
        drawn.judgements,
        k=k,
        hybrid=hybrid,
        sample=0,
        tell=lambda _: None,
    )
    return Compared(
        model=candidate.space.name,
        dimensions=candidate.space.dimensions,
        size=candidate.chunking.size or 0,
        documents=counts.live_documents,
        ready_made=sum(each.chunks is not None for each in drawn.documents),
        chunks=counts.chunks,
        failed=counts.failures,
        evaluation=replace(evaluation, known_items=drawn.known_items),
        chunks_per_s=speed * texts / tokens if speed and tokens else None,
        bytes_per_chunk=counts.bytes / max(counts.chunks, 1),
        tokens=tokens,
        usd=None if price is None else price * tokens / TOKENS_PER_PRICE,
    )


def _sample(
    connections: Connections,
    collection: CollectionInfo,
    queries: Queries | None,
    judgements: Judgements | None,
    size: int,
) -> Sample:
    """As many documents as wanted; those that queries ask for come first."""
    db = connections.db
    keys = samples.drawn_keys(db, collection, size)
    asked: Judgements = {}
    if queries is not None and judgements is not None:
        asked = {key: judgements[key] for key in queries if key in judgements}
        judged = {document for grades in asked.values() for document in grades}
        spelled = samples.live_keys(db, collection, judged)
        asked = dict(_that_fit(asked, spelled, size))
        first = [spelled[key] for grades in asked.values() for key in grades if key in spelled]
        keys = list(dict.fromkeys([*first, *keys]))[: max(size, len(set(first)))]
        if not asked:
            raise UsageError(
                reason=f"{collection.name} has no document that is judged for one of the queries"
            )
    stored = list(samples.documents(db, collection, keys))
    if not stored:
        raise UsageError(reason=f"{collection.name} has no live documents to compare with")
    made_anew = [document(key, chunks) for key, chunks in stored]
    if queries is not None and judgements is not None:
        return Sample(made_anew, queries, asked, known_items=False)
    few = set(keys[:KNOWN_ITEMS])
    asked_for = ((key, [each.content for each in cs]) for key, cs in stored if key in few)
    drawn = known_items(asked_for)
    return Sample(made_anew, *drawn, known_items=True)


def _that_fit(
    asked: Judgements, spelled: dict[str, str], size: int
) -> Iterator[tuple[str, dict[str, int]]]:
    """Queries in their order, while the documents judged for them fit; one at the least."""
    taken: set[str] = set()
    for query, grades in asked.items():
        there = {key: grade for key, grade in grades.items() if key in spelled}
        if not any(grade > 0 for grade in there.values()):
            continue
        if taken and len(taken | there.keys()) > size:
            return
        taken |= there.keys()
        yield query, there

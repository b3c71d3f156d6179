"""Plans: models side by side over one reading of the documents, before anything is spent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from embedfleet.connections import Connections
from embedfleet.eta import Basis, estimate
from embedfleet_producer.chunking import settled
from embedfleet_producer.contexts import ContextFunction
from embedfleet_producer.plan import Counted, PlannedDeletions, Planner, Target, count_all
from embedfleet_producer.ready_made import ChunkFunction
from embedfleet_producer.windows import Documents
from embedfleet_schema.catalogue import api_models
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.database import Database
from embedfleet_schema.errors import BadChunking, BadModelName, ModelMismatch, UnknownCollection
from embedfleet_schema.store import collections, plans
from embedfleet_schema.store.usage import TOKENS_PER_PRICE
from embedfleet_schema.types import Chunking, CollectionInfo, Rejection, Space


@dataclass(frozen=True, slots=True)
class Plan:
    """What enqueueing would do and cost. Nothing was written, and nothing was spent.

    Of `texts`, the distinct chunks, `stored` have their vector in the collection already,
    `elsewhere` in another collection of the same space, and `failed` cannot be embedded by this
    model; the others are paid for, with `tokens_to_pay`. `approximate`: the tokens are estimated,
    because the model's tokenizer is not at hand. `usd` is None where no price is known, `seconds`
    where nothing tells how fast it goes; `basis` says where that comes from. `vector_bytes` is what
    the new vectors take on disk, without an index. A mirror would delete `to_delete` documents, of
    which `deletions` lists the first keys; `undeleted` says why it would delete none.
    """

    collection: str
    model: str
    dimensions: int
    documents: int
    unchanged: int
    rejected: int
    chunks: int
    texts: int
    tokens: int
    stored: int
    elsewhere: int
    failed: int
    to_embed: int
    tokens_to_pay: int
    approximate: bool
    usd_per_million: float | None
    usd: float | None
    seconds: float | None
    basis: Basis
    vector_bytes: int
    rejections: list[Rejection]
    to_delete: int = 0
    deletions: list[str] = field(default_factory=list)
    undeleted: str | None = None


def make_plans(
    connections: Connections,
    name: str,
    targets: Sequence[Target],
    documents: Documents,
    *,
    chunk: ChunkFunction | None = None,
    context: ContextFunction | None = None,
    replace: bool = False,
    source: str | None = None,
    mirror: bool = False,
    on_window: Callable[[Counted], None] | None = None,
) -> list[Plan]:
    """A plan for each target, in their order; the documents are read once. With a `context` there
    is one target. The first may mirror.
    """
    deletions = None
    if mirror and targets[0].collection is not None:
        deletions = PlannedDeletions(connections.db, targets[0].collection, documents, source)
    planners = [
        Planner(connections.db, target, replace_others=replace, context=context, deletions=each)
        for target, each in zip_longest(targets, [deletions])
    ]
    count_all(
        documents,
        planners,
        connections.settings,
        chunk=chunk,
        contextual=context is not None,
        source=source,
        on_window=on_window,
    )
    return [
        counted_plan(connections, name, target, planner)
        for target, planner in zip(targets, planners, strict=True)
    ]


def compared(name: str, chunking: Chunking) -> Target:
    """A model to compare with, cutting as the first one does as far as it takes such chunks.

    Raises:
        BadModelName: it names no model, or none that offers such dimensions.
        ModelNotFound: a local model is not within reach.
    """
    space = named_space(name)
    # A tokenizer that was named belongs to the first model.
    wanted = dataclasses.replace(chunking, tokenizer="")
    try:
        return Target(space, settled(space, wanted))
    except BadChunking:
        return Target(
            space, settled(space, Chunking(mode=chunking.mode, template=chunking.template))
        )


def named_space(name: str) -> Space:
    """The space of a model, as `MODEL` or `MODEL@DIMENSIONS` names it.

    Raises:
        BadModelName: it names no model, or none that offers such dimensions.
        ModelNotFound: a local model is not within reach.
    """
    model, at, dimensions = name.partition("@")
    if at and not dimensions.isdecimal():
        raise BadModelName(name=name, reason="write a number of dimensions after the @")
    return resolve_space(model, dimensions=int(dimensions) if at else None)


def first_target(
    db: Database,
    name: str,
    model: str | None,
    chunking: Chunking | None,
    dimensions: int | None,
    max_tokens: int | None,
) -> Target:
    """A collection, or what one of this name would be."""
    try:
        collection = collections.find(db, name)
    except UnknownCollection:
        if model is None:
            raise
        collections.check_name(name)
        space = resolve_space(model, dimensions=dimensions, max_tokens=max_tokens)
        return Target(space, settled(space, chunking or Chunking()))
    return existing(collection, model, chunking, dimensions)


def existing(
    known: CollectionInfo, model: str | None, chunking: Chunking | None, dimensions: int | None
) -> Target:
    """The target of a collection that is there, which a plan cannot make another one."""
    if not collections.is_of(known, model) or dimensions not in (None, known.space.dimensions):
        wanted = f"{model or known.space.name} ({dimensions or 'its own'} dimensions)"
        found = f"{known.space.name} ({known.space.dimensions} dimensions)"
        raise ModelMismatch(name=known.name, existing=found, wanted=wanted)
    collections.check_chunking(known, chunking)
    return Target(known.space, known.chunking, known)


def counted_plan(connections: Connections, name: str, target: Target, planner: Planner) -> Plan:
    """What was counted for a target, with what it costs and takes."""
    counted, space = planner.counted, target.space
    price = api_models.price_of(space.name, connections.settings.prices)
    reckoned = estimate(connections, space, counted)
    return Plan(
        collection=name,
        model=space.name,
        dimensions=space.dimensions,
        documents=counted.documents,
        unchanged=counted.unchanged,
        rejected=counted.rejected,
        chunks=counted.chunks,
        texts=counted.texts,
        tokens=counted.tokens,
        stored=counted.stored,
        elsewhere=counted.elsewhere,
        failed=counted.failed,
        to_embed=counted.to_embed,
        tokens_to_pay=counted.tokens_to_pay,
        approximate=planner.approximate,
        usd_per_million=price,
        usd=None if price is None else price * counted.tokens_to_pay / TOKENS_PER_PRICE,
        seconds=reckoned.seconds,
        basis=reckoned.basis,
        vector_bytes=plans.vector_bytes(space, counted.to_embed + counted.elsewhere),
        rejections=counted.rejections,
        to_delete=counted.to_delete,
        deletions=counted.deletions,
        undeleted=counted.undeleted,
    )

"""What searches by the index find of what exact ones do: questions, and a search of either kind."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import psycopg
from psycopg import sql

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.store.search import vector_text
from embedfleet_schema.types import CollectionInfo

_SQL = load("recall")


@dataclass(frozen=True, slots=True)
class Question:
    """A vector as SQL takes it. That of a chunk finds the chunk itself first, which is no hit."""

    vector: str
    chunk: int | None = None


def asked(db: Database, collection: CollectionInfo, limit: int) -> list[Question]:
    """What people asked last, as far as it is in the cache of queries. Nothing on a replica, which
    has no copy of it.
    """
    values = {"space_id": collection.space_id, "limit": limit}
    try:
        with db.transaction() as conn:
            rows = conn.execute(_SQL["questions"], values).fetchall()
    except psycopg.errors.FeatureNotSupported:
        return []
    vectors = (np.array(embedding, dtype=np.float32) for (embedding,) in rows)
    # Whoever may search may write there.
    sound = (each for each in vectors if len(each) == collection.space.dimensions and each.any())
    return [Question(vector_text(collection, each)) for each in sound]


def chunks(db: Database, collection: CollectionInfo, limit: int) -> list[Question]:
    """Chunks from all over the collection: the same ones each time, while they are there."""
    view = sql.Identifier(collection.name)
    with db.transaction() as conn:
        span = conn.execute(_SQL["span"].format(view=view)).fetchone()
        if span is None or span[0] is None:
            return []
        drawn = random.Random(0)  # noqa: S311 - a sample
        places = [drawn.randint(*span) for _ in range(limit)]
        rows = conn.execute(_SQL["chunks"].format(view=view), {"places": places})
        return [Question(vector, chunk) for chunk, vector in rows]


def hits(
    db: Database,
    collection: CollectionInfo,
    question: Question,
    k: int,
    *,
    exact: bool = False,
    setting: tuple[str, int] | None = None,
) -> list[tuple[int, float]]:
    """The k hits as (chunk, score), best first.

    Args:
        setting: pgvector's setting for this search, and its value.
    """
    more = 0 if question.chunk is None else 1
    values = {
        "collection": collection.name,
        "query": question.vector,
        "k": k + more,
        "exact": exact,
    }
    with db.transaction() as conn:
        if setting is not None:
            name, value = setting
            conn.execute(_SQL["widen"], {"setting": name, "value": str(value)})
        rows = conn.execute(_SQL["search"], values).fetchall()
    others = [(chunk, score) for chunk, score in rows if chunk != question.chunk]
    return others[:k]

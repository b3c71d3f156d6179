"""Stored texts that are queued again: what failed, and what a repair found missing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection, sql

from embedfleet_schema.database import Database
from embedfleet_schema.errors import EmbedfleetError
from embedfleet_schema.packing import pack
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import jobs, locks, transitions
from embedfleet_schema.store.jobs import LOADING_SECONDS, JobKind, Tally
from embedfleet_schema.store.keyset import LEAST, MOST, end
from embedfleet_schema.store.texts import judging, still_without
from embedfleet_schema.store.transitions import NewBatch
from embedfleet_schema.turns import ANY_TURN, Turn
from embedfleet_schema.types import CollectionInfo

log = logging.getLogger(__name__)

_SQL = load("failures")

# Texts that are queued in one transaction, so that whoever owns the collection waits for no more;
# and ranges that are looked through for them, so that others who look wait for no more.
TEXTS = 10_000
RANGES = 20


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for: `following` cuts the ranges (see `keyset.end`), and `found` gives those
    of one that are to be queued, as (number, tokens).
    """

    following: sql.Composed
    found: sql.Composed
    values: Mapping[str, Any]


def retry_failures(
    db: Database,
    collection: CollectionInfo,
    *,
    batch_tokens: int,
    job_id: int | None = None,
    budget_usd: float | None = None,
    turn: Turn = ANY_TURN,
) -> int | None:
    """Try failed texts again in a job of their own; None where all of them are in open batches."""
    search = Search(
        composed(_SQL["next_failed"], collection),
        judging(_SQL["to_retry"], collection),
        {"collection_id": collection.id, "job_id": job_id},
    )
    return requeue(
        db,
        collection,
        "retry",
        search,
        batch_tokens=batch_tokens,
        budget_usd=budget_usd,
        turn=turn,
    )


def requeue(
    db: Database,
    collection: CollectionInfo,
    kind: JobKind,
    search: Search,
    *,
    batch_tokens: int,
    budget_usd: float | None = None,
    turn: Turn = ANY_TURN,
) -> int | None:
    """A job of stored texts in batches of `batch_tokens` tokens; None where none was found.

    A page at a time: the job is loading until the last, and interrupted where it stops before.
    What was queued by then goes on, and whoever calls again gets the rest.
    """
    job_id, after = None, LEAST
    try:
        while after < MOST:
            with db.transaction() as conn:
                # Two calls at once take turns: the later one sees the batches of the earlier.
                locks.repair_alone(conn, collection.id)
                found, after = _look(conn, search, after)
                stored = job_id
                if texts := _still_missing(conn, collection, found):
                    if stored is None:
                        stored = jobs.create(
                            conn, collection, kind, budget_usd=budget_usd, turn=turn
                        )
                    jobs.count(conn, stored, Tally(chunks=len(texts)))
                    put_batches(conn, collection, stored, texts, batch_tokens=batch_tokens)
                if stored is not None and after == MOST:
                    jobs.loaded(conn, stored)
                elif stored is not None:
                    jobs.still_loading(conn, stored, loading_seconds=LOADING_SECONDS)
            job_id = stored
    except BaseException:
        if job_id is not None:
            _interrupt(db, job_id)
        raise
    return job_id


def put_batches(
    conn: Connection[Any],
    collection: CollectionInfo,
    job_id: int,
    texts: Iterable[tuple[int, int]],
    *,
    batch_tokens: int,
) -> int:
    """Pack (text_id, tokens) pairs, which wait in no batch, into batches of a job; returns how many
    there are.

    The caller shares the collection: a pause of the job waits, or is seen.
    """
    packs = pack(texts, batch_tokens)
    numbers = transitions.numbers(conn, len(packs))
    batches = [
        NewBatch(number, packed.texts, packed.tokens)
        for number, packed in zip(numbers, packs, strict=True)
    ]
    batch_of = {text_id: batch.id for batch in batches for text_id in batch.text_ids}
    transitions.point(conn, collection, batch_of)
    transitions.enqueue(conn, collection, transitions.standing(conn, job_id), batches)
    return len(batches)


def _look(conn: Connection[Any], search: Search, after: int) -> tuple[list[tuple[int, int]], int]:
    """Texts in the ranges after one, enough for a transaction; and where the next begins."""
    found: list[tuple[int, int]] = []
    for _ in range(RANGES):
        until = end(conn, search.following, search.values, after)
        values = {**search.values, "after": after, "until": until}
        found += conn.execute(search.found, values).fetchall()
        after = until
        if after == MOST or len(found) >= TEXTS:
            break
    return found, after


def _still_missing(
    conn: Connection[Any], collection: CollectionInfo, found: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """They were looked for without the collection's lock, because that takes long; it is taken
    here.
    """
    if not found:
        return []
    locks.share(conn, collection.id)
    return still_without(conn, collection, found)


def _interrupt(db: Database, job_id: int) -> None:
    try:
        with db.transaction() as conn:
            jobs.interrupted(conn, job_id)
    except (psycopg.Error, EmbedfleetError) as failed:
        # It is taken for interrupted all the same, a little later.
        log.warning("job %d is not marked interrupted: %s", job_id, type(failed).__name__)

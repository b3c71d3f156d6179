"""The batches that a provider batch has: what they hold, and what becomes of each.

Every write is fenced by the attempt under which it leased them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from embedfleet_schema.database import Database
from embedfleet_schema.embedded_text import embedded_text
from embedfleet_schema.errors import LeaseLost
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import collections, reuse, shares, transitions
from embedfleet_schema.store.leases import Lease
from embedfleet_schema.store.settlement import Settlement, settling
from embedfleet_schema.types import CollectionInfo

_SQL = load("provider_batches")
_BATCHES = load("batches")


@dataclass(frozen=True, slots=True)
class Failed:
    """Why the provider does not take a text."""

    code: str
    reason: str


def leases(db: Database, provider_batch_id: int) -> list[Lease]:
    """The open batches of a provider batch with the numbers of all their texts, and empty strings
    for the texts: see `texts`.
    """
    with db.transaction() as conn:
        rows = conn.execute(_SQL["leases"], {"provider_batch_id": provider_batch_id}).fetchall()
        infos = {row[4]: collections.by_id(conn, row[4]) for row in rows}
        others = {info.id: reuse.siblings(conn, info) for info in infos.values()}
    return [
        Lease(
            id=batch_id,
            attempt=attempt,
            errors=errors,
            job_id=job_id,
            collection=infos[collection_id],
            tokens=tokens,
            text_ids=text_ids,
            texts=[""] * len(text_ids),
            others=others[collection_id],
        )
        for batch_id, attempt, errors, job_id, collection_id, tokens, text_ids in rows
    ]


def texts(db: Database, collection: CollectionInfo, text_ids: list[int]) -> dict[int, str]:
    """Those of the texts that have no vector yet."""
    statement = composed(_BATCHES["missing_texts"], collection)
    with db.transaction() as conn:
        rows = conn.execute(statement, {"texts": text_ids})
        return {text_id: embedded_text(content, context) for text_id, content, context, _ in rows}


def jobs(db: Database, provider_batch_id: int) -> dict[int, int]:
    """The job of each batch that it ever had."""
    with db.transaction() as conn:
        return dict(conn.execute(_SQL["jobs"], {"provider_batch_id": provider_batch_id}).fetchall())


def settle(db: Database, lease: Lease, failed: Mapping[int, Failed], reason: str) -> bool:
    """Close a batch whose answers are stored; whether some of it is for workers now.

    Texts of `failed` get a failure; what has neither goes to the workers of its collection, for
    `reason`, which is a state for the whole batch unless some of it failed. A lease that was lost
    meanwhile is left alone.
    """
    try:
        with settling(db, lease) as batch:
            missing = batch.missing()
            dead = _record(batch, {each: failed[each] for each in missing if each in failed})
            return _close(batch, [each for each in missing if each not in failed], dead, reason)
    except LeaseLost:
        return False


def _close(batch: Settlement, left: list[int], dead: list[int], reason: str) -> bool:
    given_up = f"the batch API refused {len(dead)} of its texts" if dead else None
    if not left:
        batch.finish("dead" if dead else "done", given_up, failed=len(dead))
        return False
    if dead:
        divide = partial(transitions.divide, batch.conn, batch.collection, batch.id)
        made = divide(left, target=batch.destination(), reason=reason, to_workers=True)
        divide(dead, target="dead", reason=given_up)
        batch.finish("split", reason)
    else:
        batch.go_live(batch.text_ids)
        batch.release(reason=reason, delay_s=0.0, to_workers=True)
        made = batch.id
    if made is not None:
        shares.place(batch.conn, [made])
    return True


def _record(batch: Settlement, failed: Mapping[int, Failed]) -> list[int]:
    """A failure for each text that still has a chunk; returns which those are."""
    by_verdict: dict[Failed, list[int]] = defaultdict(list)
    for text_id, verdict in failed.items():
        by_verdict[verdict].append(text_id)
    return [
        text_id
        for verdict, text_ids in by_verdict.items()
        for text_id in batch.record(text_ids, code=verdict.code, reason=verdict.reason)
    ]

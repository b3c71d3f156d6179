"""What jobs with a budget pay for in a provider batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from psycopg import Connection

from embedfleet_schema.statements import load
from embedfleet_schema.store import budgets, collections, transitions, usage
from embedfleet_schema.store.budgets import Room, Unaffordable
from embedfleet_schema.types import Space

_SQL = load("provider_batches")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A batch that may go into a provider batch; `has_budget`: its job has a budget."""

    id: int
    texts: int
    tokens: int
    job_id: int
    collection_id: int
    has_budget: bool


class JobBudgets:
    """The budgets of the jobs of some batches, locked until the transaction ends.

    `costs` is what they pay for it, and `short` are those that can pay for nothing more.
    """

    def __init__(
        self,
        conn: Connection[Any],
        space_id: int,
        price: float | None,
        candidates: Iterable[Candidate],
    ) -> None:
        self.costs: dict[int, Decimal] = {}
        self.short: list[Unaffordable] = []
        self._conn = conn
        self._price = None if price is None else usage.exact(price)
        self._rooms: dict[int, Room | None] = {}
        with_budget = {each.job_id: each.collection_id for each in candidates if each.has_budget}
        self._space: Space | None = None
        for job_id in sorted(with_budget):
            self._space = self._space or collections.by_id(conn, with_budget[job_id]).space
            if self._price is not None:
                self._rooms[job_id] = budgets.room(conn, job_id, space_id, self._space, self._price)

    def pay(self, batch: Candidate) -> Candidate | None:
        """What of a batch is paid for: all, a part that leaves the rest behind, or nothing."""
        if not batch.has_budget:
            return batch
        room = self._rooms.get(batch.job_id)
        if room is None or self._price is None or self._space is None:
            return None
        needed = budgets.bounds([batch.tokens], self._space)[0]
        needed += budgets.per_text(self._space) * (batch.texts - 1)
        if usage.usd_of(needed, self._price) > room.room:
            return self._part(batch, room)
        self._spend(batch.job_id, room, needed)
        return batch

    def _part(self, batch: Candidate, room: Room) -> Candidate | None:
        """The last that the job pays for in this one."""
        assert self._price is not None  # noqa: S101 - see pay
        assert self._space is not None  # noqa: S101
        (text_ids,) = self._conn.execute(_SQL["texts"], {"id": batch.id}).fetchone() or ([],)
        collection = collections.by_id(self._conn, batch.collection_id)
        counted = budgets.counts_of(self._conn, collection, text_ids)
        needed = budgets.bounds([count for _, count in counted], self._space)
        filed = room.filed or batch.job_id in self.costs
        rows = budgets.affordable(replace(room, filed=filed), needed, self._price, batch.job_id)
        self._rooms[batch.job_id] = None
        if isinstance(rows, Unaffordable):
            self.short.append(rows)
        if not isinstance(rows, list):
            return None
        paid = set(rows)
        rest = [each for row, each in enumerate(counted) if row not in paid]
        tokens = sum(counted[row][1] for row in rows)
        if rest:
            left = sum(count for _, count in rest)
            left_out = [text_id for text_id, _ in rest]
            transitions.carve(self._conn, collection, batch.id, left_out, tokens=left)
        self._spend(batch.job_id, room, sum(needed[row] for row in rows))
        self._rooms[batch.job_id] = None
        return replace(batch, texts=len(rows), tokens=tokens)

    def _spend(self, job_id: int, room: Room, tokens: int) -> None:
        assert self._price is not None  # noqa: S101 - see pay
        usd = usage.usd_of(tokens, self._price)
        self.costs[job_id] = self.costs.get(job_id, Decimal(0)) + usd
        self._rooms[job_id] = replace(room, room=room.room - usd)

"""From which lanes a process claims: interactive first, and bulk often enough not to starve.

Pure policy: it knows neither the database nor the time.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from embedfleet_schema.turns import LANES, Lane
from embedfleet_schema.types import Queue

# Bulk goes first after so many interactive batches in a row: it gets an eighth at least.
IN_A_ROW = 7

# The spaces that a lane leaves alone now.
CoolingOf = Callable[[Lane], Sequence[int]]


class Try(NamedTuple):
    """A claim that is tried: from these lanes, without these spaces."""

    lanes: Sequence[Lane]
    excluding: Sequence[int]


class LaneTurns:
    """The lanes that the slots of one process claim from.

    Of several slots that call an API, one is for interactive batches alone: the others may all wait
    for a rate limit, each with a bulk batch in hand.
    """

    def __init__(self, slots: int = 1) -> None:
        self._bulk_slots: dict[Queue, int] = {"api": max(1, slots - 1)}
        # By queue, those that run a bulk batch, or try to claim one.
        self._bulk: Counter[Queue] = Counter()
        self._in_a_row = 0
        self._changed = threading.Lock()

    @contextmanager
    def turn(self, queue: Queue) -> Iterator[LaneTurn]:
        """One slot, from its claim until its batch is through."""
        with self._changed:
            most = self._bulk_slots.get(queue)
            takes_bulk = most is None or self._bulk[queue] < most
            self._bulk[queue] += takes_bulk
            turn = LaneTurn(self, queue, self._in_a_row >= IN_A_ROW, takes_bulk=takes_bulk)
        try:
            yield turn
        finally:
            turn.leave_bulk()

    def note(self, lane: Lane, *, bulk_first: bool) -> None:
        """A slot has a batch; `bulk_first`: it had asked for bulk first."""
        with self._changed:
            self._in_a_row = 0 if lane == "bulk" or bulk_first else self._in_a_row + 1

    def leave_bulk(self, queue: Queue) -> None:
        """A slot runs no bulk batch, or no more."""
        with self._changed:
            self._bulk[queue] -= 1


class LaneTurn:
    """What a slot may claim this time, and what it got."""

    def __init__(
        self, turns: LaneTurns, queue: Queue, bulk_is_due: bool, *, takes_bulk: bool
    ) -> None:
        self._turns = turns
        self._queue = queue
        self._bulk_first = bulk_is_due and takes_bulk
        self._takes_bulk = takes_bulk

    def tries(self, cooling: CoolingOf) -> Iterator[Try]:
        """The claims to be tried, one after the other, until one finds a batch."""
        first = Try(("interactive",), cooling("interactive"))
        if not self._takes_bulk:
            yield first
            return
        bulk = Try(("bulk",), cooling("bulk"))
        if self._bulk_first:
            yield from (bulk, first)
        elif first.excluding == bulk.excluding:
            yield Try(LANES, bulk.excluding)
        else:
            yield from (first, bulk)

    def took(self, lane: Lane) -> None:
        """It has a batch of this lane."""
        self._turns.note(lane, bulk_first=self._bulk_first)
        if lane == "interactive":
            self.leave_bulk()

    def leave_bulk(self) -> None:
        """Let another slot take a bulk batch."""
        if self._takes_bulk:
            self._takes_bulk = False
            self._turns.leave_bulk(self._queue)

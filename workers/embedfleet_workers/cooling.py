"""Cooling: spaces that this process leaves alone for a while: their provider said so, or it cannot
load their model.

Other processes find that out by themselves, one batch each. A batch that is put back keeps its
place in the queue; what keeps this process from claiming it again at once stands here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from embedfleet_schema.turns import Lane
from embedfleet_schema.types import Queue

log = logging.getLogger(__name__)

Ring = Callable[[Queue], object]

# A longer wait is asked about again: somebody may have raised the limit meanwhile.
LONGEST_S = 60.0


class Cooling:
    """The cooling spaces of one process, and the ring at the end of each.

    Rings that come while a space cools find nothing to do and are spent. So when it is over the
    process rings for its own slots, which may have nobody else to wake them; a ring that this
    wakes in a process that still cools is made good by that process's own.
    """

    def __init__(self, ring: Ring = lambda _: None) -> None:
        self._ring = ring
        self._changed = threading.Condition()
        self._until: dict[tuple[int, Queue, Lane], float] = {}
        self._thread: threading.Thread | None = None
        self._stopped = False

    def cool(self, space_id: int, queue: Queue, seconds: float, lane: Lane = "interactive") -> None:
        """Leave a space alone from now on; of two waits the longer one holds. What a bulk batch
        met with keeps no interactive one waiting: it may be that only bulk waits for a limit.
        """
        until = time.monotonic() + min(seconds, LONGEST_S)
        with self._changed:
            key = space_id, queue, lane
            self._until[key] = max(until, self._until.get(key, until))
            self._start()
            self._changed.notify()

    def spaces(self, lane: Lane = "interactive") -> list[int]:
        """The ids of the spaces to be left alone now by batches of a lane."""
        now = time.monotonic()
        with self._changed:
            return sorted(
                {
                    space_id
                    for (space_id, _, cooled), end in self._until.items()
                    if end > now and cooled in ("interactive", lane)
                }
            )

    def stop(self) -> None:
        """End the thread; nothing rings any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=10)

    def _start(self) -> None:
        if self._thread is None and not self._stopped:
            self._thread = threading.Thread(
                target=self._run, name="embedfleet-cooling", daemon=True
            )
            self._thread.start()

    def _run(self) -> None:
        """One thread for all of them, while there are any."""
        while (over := self._next()) is not None:
            for queue in sorted(over):
                try:
                    self._ring(queue)
                except Exception:
                    # The sweep rings too; without this thread nothing else would end in time.
                    log.exception("the message after cooling failed")

    def _next(self) -> set[Queue] | None:
        """Wait until some spaces have cooled; None when there is nothing to wait for any more."""
        with self._changed:
            while self._until and not self._stopped:
                over = self._over()
                if over:
                    return over
                self._changed.wait(min(self._until.values()) - time.monotonic())
            self._thread = None
            return None

    def _over(self) -> set[Queue]:
        """The queues of the spaces that have cooled; they are forgotten."""
        now = time.monotonic()
        over = [key for key, end in self._until.items() if end <= now]
        for key in over:
            del self._until[key]
        return {queue for _, queue, _ in over}

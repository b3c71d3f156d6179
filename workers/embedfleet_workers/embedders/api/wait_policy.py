"""When a batch may send: its first turn comes soon or not at all, later ones may take a while."""

from __future__ import annotations

import asyncio

from embedfleet_workers.rate_limits.quota import Admission, Amounts, Limiter

# How long a batch that has begun waits for a turn.
BEGUN_WAIT_S = 60.0


class WaitPolicy:
    """The turns of one batch. Whoever waits here has sent nothing, and can be called off."""

    def __init__(self, first_wait_s: float) -> None:
        self.answered = False
        self._first_wait_s = first_wait_s
        self._begun = asyncio.Event()
        self._waiting: set[asyncio.Task[object]] = set()
        self._over = False

    async def take(
        self, limiter: Limiter, costs: Amounts, *, leads: bool, limited: bool
    ) -> Admission:
        """The turn of one request.

        The one that leads keeps to the short wait until an answer, and so does one that was
        limited: the slot is somebody else's while the provider is left alone.

        Raises:
            EmbedderBusy, ProviderStopped: as `Limiter.admit`.
        """
        brief = limited or (leads and not self.answered)
        max_wait_s = self._first_wait_s if brief else BEGUN_WAIT_S
        with self:
            admission = await limiter.admit(costs, max_wait_s=max_wait_s)
        self.begin()
        return admission

    def begin(self) -> None:
        """Those who follow may go: the first turn was had, or never will be."""
        self._begun.set()

    async def follow(self) -> None:
        """Wait until the request that leads had its turn."""
        with self:
            await self._begun.wait()

    async def rest(self, seconds: float) -> None:
        with self:
            await asyncio.sleep(seconds)

    def call_off(self) -> None:
        """Cancel every task that waits here or will, but not the one that calls."""
        self._over = True
        for task in self._waiting - {asyncio.current_task()}:
            task.cancel()

    def __enter__(self) -> None:
        if self._over:
            raise asyncio.CancelledError
        if task := asyncio.current_task():
            self._waiting.add(task)

    def __exit__(self, *_: object) -> None:
        if task := asyncio.current_task():
            self._waiting.discard(task)

"""Who waits in this process: first come, first served, and few of them hold a turn of the fleet's.

A turn that is reserved far ahead is lost for the fleet when its process dies, and leaves a gap when
its caller goes away. So only the head of the line asks for one, and for one that comes soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from embedfleet_workers.limits.protocol import Amounts

# How far ahead turns are reserved: long beside a round trip and a process that is late, short
# beside a minute.
AHEAD_S = 2.0


class Line:
    """The line of one limit in one process. For one event loop."""

    def __init__(self) -> None:
        self._head = asyncio.Lock()
        self._waiting: dict[object, Amounts] = {}

    def wait_s(self, rates: Mapping[str, float]) -> float:
        """The least that a newcomer waits for those before it, were all of `rates` (per second)
        theirs.
        """
        return max(
            (
                sum(costs.get(name, 0.0) for costs in self._waiting.values()) / rate
                for name, rate in rates.items()
                if rate > 0
            ),
            default=0.0,
        )

    @asynccontextmanager
    async def head(self, costs: Amounts, wait_s: float) -> AsyncIterator[None]:
        """Inside, the caller is at the head of the line.

        Raises:
            TimeoutError: that takes longer than `wait_s`.
        """
        place = object()
        self._waiting[place] = costs
        try:
            async with asyncio.timeout(wait_s):
                await self._head.acquire()
        finally:
            del self._waiting[place]
        try:
            yield
        finally:
            self._head.release()

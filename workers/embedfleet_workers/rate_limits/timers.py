"""Who waits for a turn in this process: one look at the store, twice a second, serves all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from embedfleet_workers.rate_limits.stores.limit_store import ClockState, StoreAway, Ticket

LOOK_S = 0.5


class Timers:
    """Wakes each when its turn comes, and all of them at a stop. For one event loop.

    A pause, or a rate that changed, moves every turn: their alarms are set anew.
    """

    def __init__(self, look: Callable[[], Awaitable[ClockState]]) -> None:
        self._look = look
        self._alarms: dict[asyncio.Future[None], tuple[Ticket, asyncio.TimerHandle]] = {}
        self._resting: set[asyncio.Future[None]] = set()
        self._watcher: asyncio.Task[None] | None = None

    async def sleep(self, ticket: Ticket, seconds: float) -> None:
        """Until the turn has come, or there is something that has to be looked at."""
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._set(sleeper, ticket, seconds)
        self._start()
        try:
            await sleeper
        finally:
            _, alarm = self._alarms.pop(sleeper)
            alarm.cancel()

    async def rest(self, seconds: float) -> None:
        """Sleep without a turn; a stop ends it, and a turn that was left."""
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        alarm = asyncio.get_running_loop().call_later(seconds, _end, sleeper)
        self._resting.add(sleeper)
        self._start()
        try:
            await sleeper
        finally:
            self._resting.discard(sleeper)
            alarm.cancel()

    def rouse(self) -> None:
        """Let those look who have no turn."""
        for sleeper in tuple(self._resting):
            _end(sleeper)

    def wake(self) -> None:
        """Let all of them look for themselves."""
        self.rouse()
        for sleeper in tuple(self._alarms):
            _end(sleeper)

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        self.wake()

    def _start(self) -> None:
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch())

    def _set(self, sleeper: asyncio.Future[None], ticket: Ticket, seconds: float) -> None:
        alarm = asyncio.get_running_loop().call_later(seconds, _end, sleeper)
        self._alarms[sleeper] = (ticket, alarm)

    async def _watch(self) -> None:
        while self._alarms or self._resting:
            await asyncio.sleep(LOOK_S)
            try:
                clock_state = await self._look()
            except StoreAway:
                # Each finds out for itself when its alarm rings.
                continue
            if clock_state.stopped is not None:
                self.wake()
            for sleeper, (ticket, alarm) in list(self._alarms.items()):
                if ticket.epoch != clock_state.epoch:
                    _end(sleeper)
                elif not sleeper.done():
                    alarm.cancel()
                    self._set(sleeper, ticket, clock_state.wait_s(ticket.tat))


def _end(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)

"""The requests of one batch on their way: several at once, each answer given out as it comes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from embedfleet_schema.errors import (
    BadAnswer,
    EmbedderBusy,
    EmbeddingError,
    InputAtFault,
    ProviderStopped,
)
from embedfleet_schema.types import Kind
from embedfleet_workers.embedders.api.adapter import Refused, Stopped, TooLarge
from embedfleet_workers.embedders.api.requests import Request
from embedfleet_workers.embedders.api.sender import Sender
from embedfleet_workers.embedders.api.turns import Turns
from embedfleet_workers.embedders.protocol import Part

PROBE = Request([0], ["A probe."], [3])
# What is raised of several errors: first what concerns everybody, then what names a text.
_GRAVEST = (ProviderStopped, EmbedderBusy, InputAtFault, BadAnswer, EmbeddingError)


class Batch:
    """One call of `ApiEmbedder.parts`. Everything but its making happens on the event loop."""

    def __init__(
        self, sender: Sender, requests: Sequence[Request], kind: Kind, turns: Turns
    ) -> None:
        self._sender = sender
        self._pending = deque(requests)
        self._kind = kind
        self._turns = turns
        self._errors: list[EmbeddingError] = []
        self._halted = False
        self._lanes: list[asyncio.Task[None]] = []

    async def run(self, at_once: int, give: Callable[[Part], None]) -> None:
        """Send everything, and give each answer out as it comes.

        Raises:
            The gravest of the errors that were met, once all answers are given out.
        """
        for lane in range(0 if self._halted else min(at_once, len(self._pending))):
            self._lanes.append(asyncio.create_task(self._lane(give, leads=lane == 0)))
        ends = await asyncio.gather(*self._lanes, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
                raise end
        for kind in _GRAVEST:
            if error := next((each for each in self._errors if isinstance(each, kind)), None):
                raise error

    async def stop(self) -> None:
        """Take back what was not sent, give up what was, and wait until the gate knows."""
        self._halted = True
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)

    async def _lane(self, give: Callable[[Part], None], *, leads: bool) -> None:
        """Send one request after the other until none is left."""
        if not leads:
            await self._turns.follow()
        try:
            while self._pending and not self._halted:
                await self._step(give, leads=leads)
        finally:
            self._turns.begin()

    async def _step(self, give: Callable[[Part], None], *, leads: bool) -> None:
        request = self._pending.popleft()
        if len(request.rows) > self._sender.most_inputs:
            self._pending.extendleft(reversed(request.halves()))
            return
        try:
            found = await self._sender.answer(request, self._kind, self._turns, leads=leads)
            if isinstance(found, Part):
                self._turns.answered = True
                give(found)
            else:
                await self._refused(request, found)
        except (ProviderStopped, EmbedderBusy) as error:
            self._errors.append(error)
            self._halted = True
            self._turns.call_off()
        except EmbeddingError as error:
            self._errors.append(error)

    async def _refused(self, request: Request, refusal: TooLarge | Refused) -> None:
        """Halve the request until the text is alone that the provider does not take."""
        if len(request.rows) > 1:
            if isinstance(refusal, TooLarge):
                smaller = (len(request.rows) + 1) // 2
                self._sender.most_inputs = min(self._sender.most_inputs, smaller)
            self._pending.extendleft(reversed(request.halves()))
            return
        if self._sender.health.answered_at is None:
            await self._probe()
        self._errors.append(InputAtFault(reason=refusal.reason))

    async def _probe(self) -> None:
        """Before the first text ever is blamed: a provider that refuses all requests says so here.

        Raises:
            ProviderStopped: no text is at fault, but the model's name, its options or the account.
        """
        found = await self._sender.answer(PROBE, self._kind, self._turns)
        if not isinstance(found, Part):
            reason = f"it refuses every text: {found.reason}"
            stop = Stopped("request_refused", reason, whole_account=False)
            raise await self._sender.stopped(stop)

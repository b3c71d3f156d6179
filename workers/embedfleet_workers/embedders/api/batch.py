"""The requests of one batch on their way: several at once, each answer given out as it comes."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence

from embedfleet_schema.types import Kind
from embedfleet_workers.allowance import UNLIMITED, Allowance
from embedfleet_workers.embedders.api.adapter import Faulty, Refused, TooLarge
from embedfleet_workers.embedders.api.answers import width_of
from embedfleet_workers.embedders.api.requests import Request
from embedfleet_workers.embedders.api.sender import GivenUp, Sender
from embedfleet_workers.embedders.api.turns import Turns
from embedfleet_workers.embedders.protocol import Part
from embedfleet_workers.embedding_errors import (
    BadAnswer,
    EmbedderBusy,
    EmbeddingError,
    InputAtFault,
    ProviderStopped,
    ReservationSpent,
)
from embedfleet_workers.stop import Stop

PROBE = Request([0], ["A probe."], [3])
# A model that is down is left alone for about so long.
OUTAGE_S = 30.0
# What is raised of several errors: first what concerns everybody, then what names a text, and
# what charges the batch nothing only where there is nothing else.
_GRAVEST = (ProviderStopped, EmbedderBusy, InputAtFault, BadAnswer, EmbeddingError)


class Batch:
    """One call of `ApiEmbedder.parts`. Everything but its making happens on the event loop."""

    def __init__(
        self,
        sender: Sender,
        requests: Sequence[Request],
        kind: Kind,
        turns: Turns,
        give: Callable[[Part], None],
        allowance: Allowance = UNLIMITED,
    ) -> None:
        """`give` takes each answer as it comes, and `allowance` pays where there is a budget."""
        self._sender = sender
        self._pending = deque(requests)
        self._kind = kind
        self._turns = turns
        self._give = give
        self._allowance = allowance
        self._errors: list[EmbeddingError] = []
        self._halted = False
        self._lanes: list[asyncio.Task[None]] = []

    async def run(self, at_once: int) -> None:
        """Send everything, so many requests at once.

        Raises:
            The gravest of the errors that were met, once all answers are given out.
        """
        for lane in range(0 if self._halted else min(at_once, len(self._pending))):
            self._lanes.append(asyncio.create_task(self._lane(leads=lane == 0)))
        ends = await asyncio.gather(*self._lanes, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
                raise end
        self._errors.sort(key=lambda error: isinstance(error, ReservationSpent))
        for kind in _GRAVEST:
            if error := next((each for each in self._errors if isinstance(each, kind)), None):
                raise error

    async def halt(self) -> None:
        """Take back what was not sent; what was is waited for."""
        self._halted = True
        self._turns.call_off()

    async def stop(self) -> None:
        """Take back what was not sent, give up what was, and wait until the gate knows."""
        self._halted = True
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)

    async def _lane(self, *, leads: bool) -> None:
        """Send one request after the other until none is left."""
        if not leads:
            await self._turns.follow()
        try:
            while self._pending and not self._halted:
                await self._step(leads=leads)
        finally:
            self._turns.begin()

    async def _step(self, *, leads: bool) -> None:
        request = self._pending.popleft()
        if len(request.rows) > self._sender.most_inputs:
            self._pending.extendleft(reversed(request.halves()))
            return
        began = time.monotonic()
        try:
            found = await self._sender.answer(
                request, self._kind, self._turns, self._give, leads=leads, allowance=self._allowance
            )
            match found:
                case Part():
                    self._turns.answered = True
                    self._give(found)
                case GivenUp(fault, since):
                    await self._failed(fault, since)
                case _:
                    await self._refused(request, found, since=began)
        except (ProviderStopped, EmbedderBusy) as error:
            self._errors.append(error)
            await self.halt()
        except EmbeddingError as error:
            self._errors.append(error)

    async def _failed(self, fault: Faulty, since: float) -> None:
        """Charge a request that fails again and again while the model answers others.

        Raises:
            BadAnswer, EmbeddingError: the request is at fault.
        """
        await self._probe(since)
        reason = f"{self._sender.space.provider}: {fault.reason}, again and again"
        raise (BadAnswer if fault.bad_answer else EmbeddingError)(reason=reason)

    async def _refused(
        self, request: Request, refusal: TooLarge | Refused, *, since: float
    ) -> None:
        """Halve the request until the text is alone that the provider does not take."""
        if len(request.rows) > 1:
            if isinstance(refusal, TooLarge):
                self._sender.shrink(len(request.rows))
            self._pending.extendleft(reversed(request.halves()))
            return
        if isinstance(refusal, TooLarge):
            # It was the text that was too large, and not the number of texts.
            self._sender.restore()
        await self._probe(since)
        self._errors.append(InputAtFault(reason=refusal.reason))

    async def _probe(self, since: float) -> None:
        """Before a text is blamed: does the model answer anything at all since then?

        Raises:
            ProviderStopped: no text is at fault, but the model's name, its options or the account.
            EmbedderBusy: the model is down.
        """
        sender = self._sender
        if sender.health.is_well_since(since):
            return
        found = await sender.answer(PROBE, self._kind, self._turns, self._give, tries=1)
        match found:
            case Part(spent=spent):
                self._give(sender.without_rows(spent.tokens))
            case GivenUp(Faulty(reason, answer=answer)):
                width = width_of(answer.items) if answer is not None else None
                if width is not None and width != sender.space.dimensions:
                    stop = Stop("wrong_dimensions", _other_width(width), whole_account=False)
                    raise await sender.stopped(stop)
                seconds = random.uniform(0.5, 1.5) * OUTAGE_S  # noqa: S311 - no secret depends on it
                raise EmbedderBusy(seconds=seconds, reason=f"{sender.space.provider}: {reason}")
            case _:
                reason = f"it refuses every text: {found.reason}"
                stop = Stop("request_refused", reason, whole_account=False)
                raise await sender.stopped(stop)


def _other_width(width: int) -> str:
    return (
        f"its vectors have {width} dimensions, and those of the collection another number. If it "
        f"is the model that gives {width}, make the collection anew with --dimensions {width}"
    )

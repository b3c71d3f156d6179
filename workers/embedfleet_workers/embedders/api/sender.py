"""One request, from its turn at the gate to a checked answer, as often as it takes."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field

from embedfleet_schema.errors import BadAnswer, EmbedderBusy, EmbeddingError, ProviderStopped
from embedfleet_schema.types import Kind, Space
from embedfleet_workers.embedders.api.adapter import (
    Adapter,
    Answer,
    Faulty,
    Limited,
    Refused,
    Reply,
    Stopped,
    TooLarge,
)
from embedfleet_workers.embedders.api.answers import vectors_of
from embedfleet_workers.embedders.api.counting import Calibration
from embedfleet_workers.embedders.api.requests import Request
from embedfleet_workers.embedders.api.turns import Turns
from embedfleet_workers.embedders.protocol import Part, Spent
from embedfleet_workers.limits.protocol import Admission, Amounts, Gate

# Faults of one request; with three in ten answers faulty, one request in 400 meets so many.
TRIES = 5
BACKOFF_BASE_S = 0.5
BACKOFF_LIMIT_S = 20.0
# A provider that is down is left alone for about so long.
OUTAGE_S = 30.0
# A single text that is larger than the rate limit waits until a person raises it.
ABOVE_LIMIT_S = 60.0


@dataclass(slots=True)
class Health:
    """When a provider last gave this process a good answer."""

    answered_at: float | None = None

    def note(self) -> None:
        self.answered_at = time.monotonic()

    def is_well_since(self, moment: float) -> bool:
        return self.answered_at is not None and self.answered_at > moment


@dataclass(slots=True)
class Sender:
    """What all requests of one space have in common."""

    space: Space
    adapter: Adapter
    gate: Gate
    timeout_s: float
    health: Health = field(default_factory=Health)
    calibration: Calibration = field(default_factory=Calibration)
    most_inputs: int = 0
    """Inputs of one request: the provider's cap, or fewer once it refused so many."""

    def __post_init__(self) -> None:
        self.most_inputs = self.most_inputs or self.adapter.caps.inputs

    async def answer(
        self, request: Request, kind: Kind, turns: Turns, *, leads: bool = False
    ) -> Part | TooLarge | Refused:
        """Send a request until it is answered; after a 429 or a fault it waits for a new turn.

        Raises:
            EmbedderBusy: its turn is too far away, or the provider is down.
            ProviderStopped: a person has to act.
            BadAnswer, EmbeddingError: this request fails again and again, and others are answered.
        """
        started = time.monotonic()
        faults = 0
        while True:
            costs = self.adapter.costs(self.calibration.scaled(request.tokens))
            admission = await turns.take(self.gate, costs, leads=leads)
            match await self._sent(request, kind, admission, costs):
                case Part() as part:
                    return part
                case TooLarge(reason, by_limit) if by_limit and len(request.rows) == 1:
                    raise EmbedderBusy(seconds=ABOVE_LIMIT_S, reason=reason)
                case TooLarge() | Refused() as refused:
                    return refused
                case Stopped() as stop:
                    raise await self.stopped(stop)
                case Faulty() as fault:
                    faults += 1
                    self._give_up(fault, faults, started)
                    await turns.rest(_pause_s(fault, faults))

    async def stopped(self, stop: Stopped) -> ProviderStopped:
        """The error that stands for a stop; the whole fleet hears of one of the whole account."""
        if stop.whole_account:
            await self.gate.stop(stop.code, stop.reason)
        return ProviderStopped(
            code=stop.code,
            provider=self.space.provider,
            model=self.space.name,
            reason=stop.reason,
        )

    async def _sent(
        self, request: Request, kind: Kind, admission: Admission, costs: Amounts
    ) -> Part | Limited | TooLarge | Refused | Stopped | Faulty:
        """One call, and what became of it told to the gate in every case."""
        try:
            async with asyncio.timeout(self.timeout_s):
                reply: Reply = await self.adapter.send(request.texts, kind)
        except TimeoutError:
            reply = Faulty(f"no whole answer within {self.timeout_s:g} s")
        except BaseException:
            # It was sent and counts, whoever called it off.
            await admission.settle()
            raise
        if isinstance(reply, Answer):
            read = self._part(request, reply)
            if isinstance(read, Part):
                await admission.settle({**costs, "tokens": read.spent.tokens}, reply.seen)
                return read
            reply = read
        match reply:
            case Limited(retry_after_s, seen):
                await admission.limited(retry_after_s, seen)
            case Faulty():
                await admission.failed()
            case TooLarge() | Refused() | Stopped():
                await admission.settle({**costs, "tokens": 0})
        return reply

    def _part(self, request: Request, reply: Answer) -> Part | Faulty:
        try:
            vectors = vectors_of(reply.items, len(request.rows), self.space)
        except BadAnswer as error:
            return Faulty(str(error.details["reason"]), bad_answer=True)
        self.health.note()
        if reply.tokens is None:
            tokens = sum(self.calibration.scaled(request.tokens))
        else:
            tokens = reply.tokens
            self.calibration.learn(sum(request.tokens), tokens)
        return Part(request.rows, vectors, Spent(1, tokens))

    def _give_up(self, fault: Faulty, faults: int, started: float) -> None:
        """Raise what the fault stands for when it was met often or long enough."""
        if faults < TRIES and time.monotonic() - started < 2 * self.timeout_s:
            return
        reason = f"{self.space.provider}: {fault.reason}, {faults} times in a row"
        if not self.health.is_well_since(started):
            seconds = random.uniform(0.5, 1.5) * OUTAGE_S  # noqa: S311 - no secret depends on it
            raise EmbedderBusy(seconds=seconds, reason=reason)
        raise (BadAnswer if fault.bad_answer else EmbeddingError)(reason=reason)


def _pause_s(fault: Faulty, faults: int) -> float:
    """Full jitter, and at least what the server asks for, within reason."""
    ceiling = min(BACKOFF_LIMIT_S, BACKOFF_BASE_S * 2.0 ** (faults - 1))
    jitter = random.uniform(0.0, ceiling)  # noqa: S311 - no secret depends on it
    return max(jitter, min(fault.retry_after_s or 0.0, BACKOFF_LIMIT_S))

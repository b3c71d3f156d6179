"""One request, from its turn at the gate to a checked answer, as often as it takes."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from embedfleet_schema.types import Kind, Space
from embedfleet_workers.allowance import UNLIMITED, Allowance
from embedfleet_workers.backoff import full_jitter
from embedfleet_workers.embedders.api.adapter import (
    Adapter,
    Answer,
    Faulty,
    Limited,
    Refused,
    Reply,
    TooLarge,
)
from embedfleet_workers.embedders.api.answers import vectors_of
from embedfleet_workers.embedders.api.counting import Calibration
from embedfleet_workers.embedders.api.requests import Request
from embedfleet_workers.embedders.api.turns import Turns
from embedfleet_workers.embedders.checks import no_vectors
from embedfleet_workers.embedders.protocol import Part, Spent
from embedfleet_workers.embedding_errors import AboveRateLimit, BadAnswer, ProviderStopped
from embedfleet_workers.limits.protocol import Admission, Amounts, Gate
from embedfleet_workers.stop import Stop

log = logging.getLogger(__name__)

# Faults of one request; with three in ten answers faulty, one request in 400 meets so many.
TRIES = 5
BACKOFF_BASE_S = 0.5
BACKOFF_LIMIT_S = 20.0
# So many full requests are answered before more inputs are tried than were once refused.
FULL_ANSWERS_TO_GROW = 64


@dataclass(slots=True)
class Health:
    """When a model last gave this process a good answer."""

    answered_at: float | None = None

    def note(self) -> None:
        self.answered_at = time.monotonic()

    def is_well_since(self, moment: float) -> bool:
        return self.answered_at is not None and self.answered_at > moment


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A request that met one fault after the other, the first of them at `since`."""

    fault: Faulty
    since: float


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
    """Inputs of one request: the provider's cap, or fewer while it refuses so many."""
    _full_answers: int = 0

    def __post_init__(self) -> None:
        self.most_inputs = self.most_inputs or self.adapter.caps.inputs

    async def answer(
        self,
        request: Request,
        kind: Kind,
        turns: Turns,
        paid: Callable[[Part], None],
        *,
        tries: int = TRIES,
        leads: bool = False,
        allowance: Allowance = UNLIMITED,
    ) -> Part | TooLarge | Refused | GivenUp:
        """Send a request until it is answered; after a 429 or a fault it waits for a new turn.

        `paid` is given a part without rows for each answer that is not usable and was paid for.

        Returns:
            The answer, the refusal, or what `tries` faults in a row came to.

        Raises:
            EmbedderBusy: its turn is too far away.
            AboveRateLimit: it is one text, and larger than the rate limit.
            ProviderStopped: a person has to act.
            ReservationSpent: `allowance` does not pay for it, or not once more.
        """
        started = time.monotonic()
        faults, limited, since = 0, False, started
        while True:
            allowance.take(request.rows)
            costs = self.adapter.costs(self.calibration.scaled(request.tokens))
            admission = await turns.take(self.gate, costs, leads=leads, limited=limited)
            reply = await self._sent(request, kind, admission, costs)
            allowance.settle(request.rows, _paid(reply))
            match reply:
                case Part() as part:
                    self._grow(len(part.rows))
                    return part
                case Limited():
                    limited = True
                case TooLarge(reason, by_limit) if by_limit and len(request.rows) == 1:
                    # It was the text that was too large, and not the number of texts.
                    self.restore()
                    raise AboveRateLimit(reason=reason)
                case TooLarge() | Refused() as refused:
                    return refused
                case Stop() as stop:
                    raise await self.stopped(stop)
                case Faulty() as fault:
                    faults += 1
                    since = time.monotonic() if faults == 1 else since
                    if tokens := _paid(fault):
                        paid(self.without_rows(tokens))
                    if faults >= tries or time.monotonic() - started >= 2 * self.timeout_s:
                        return GivenUp(fault, since)
                    await turns.rest(_pause_s(fault, faults))

    def shrink(self, refused: int) -> None:
        """Send fewer than the inputs of a request that was too large."""
        self.most_inputs = max(1, min(self.most_inputs, (refused + 1) // 2))
        self._full_answers = 0

    def restore(self) -> None:
        """Send as many inputs as the provider states that it takes."""
        self.most_inputs, self._full_answers = self.adapter.caps.inputs, 0

    def _grow(self, answered: int) -> None:
        """More inputs again, after a while: what was too large may have been one text of many."""
        self._full_answers += answered >= self.most_inputs
        if self._full_answers >= FULL_ANSWERS_TO_GROW:
            self.most_inputs = min(2 * self.most_inputs, self.adapter.caps.inputs)
            self._full_answers = 0

    def without_rows(self, tokens: int) -> Part:
        """What stands for an answer that was paid for and is of no use to anybody."""
        return Part([], no_vectors(self.space), Spent(1, tokens))

    async def stopped(self, stop: Stop) -> ProviderStopped:
        """The error that stands for a stop; the whole fleet hears of one of the whole account."""
        if stop.whole_account:
            await self.gate.stop(stop)
        return ProviderStopped(stop, provider=self.space.provider, model=self.space.name)

    async def _sent(
        self, request: Request, kind: Kind, admission: Admission, costs: Amounts
    ) -> Part | Limited | TooLarge | Refused | Stop | Faulty:
        """One call, and what became of it told to the gate in every case."""
        try:
            async with asyncio.timeout(self.timeout_s):
                reply: Reply = await self.adapter.send(request.texts, kind)
        except TimeoutError:
            reply = Faulty(f"no whole answer within {self.timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 - what no adapter foresaw is no text's fault
            reply = Faulty(f"the call failed ({type(error).__name__})")
            # Where, and not what: the message may quote a text or a key.
            place = traceback.extract_tb(error.__traceback__)[-1]
            log.error("%s: %s at %s:%d", self.space.name, reply.reason, place.name, place.lineno)  # noqa: TRY400
        except BaseException:
            # It was sent and counts, whoever called it off.
            await admission.settle(timed=False)
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
            case TooLarge() | Refused() | Stop():
                await admission.settle({**costs, "tokens": 0}, timed=False)
        return reply

    def _part(self, request: Request, reply: Answer) -> Part | Faulty:
        try:
            vectors = vectors_of(reply.items, len(request.rows), self.space)
        except BadAnswer as error:
            return Faulty(error.reason, bad_answer=True, answer=reply)
        self.health.note()
        if reply.tokens is None:
            tokens = sum(self.calibration.scaled(request.tokens))
        else:
            tokens = reply.tokens
            self.calibration.learn(sum(request.tokens), tokens)
        return Part(request.rows, vectors, Spent(1, tokens))


def _paid(reply: Part | Reply) -> int:
    """The tokens that an answer states, usable or not."""
    match reply:
        case Part(spent=spent):
            return spent.tokens
        case Faulty(answer=Answer(tokens=tokens)):
            return tokens or 0
    return 0


def _pause_s(fault: Faulty, faults: int) -> float:
    """At least what the server asks for, within reason."""
    jitter = full_jitter(faults, base_s=BACKOFF_BASE_S, limit_s=BACKOFF_LIMIT_S)
    return max(jitter, min(fault.retry_after_s or 0.0, BACKOFF_LIMIT_S))

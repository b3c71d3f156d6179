"""One account's way to one model: what is sent there, what came back, what was learnt from it."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field

from embedfleet_schema.turns import Lane
from embedfleet_schema.types import Kind, Space
from embedfleet_workers import signals
from embedfleet_workers.embedders.api.answers import vectors_of
from embedfleet_workers.embedders.api.providers.adapter import (
    Adapter,
    Answer,
    Faulty,
    RateLimited,
    Rejected,
    Reply,
    TooLarge,
)
from embedfleet_workers.embedders.api.token_counts import Calibration
from embedfleet_workers.embedders.checks import no_vectors
from embedfleet_workers.embedders.protocol import Part, Spent
from embedfleet_workers.embedding_errors import BadAnswer, ProviderStopped
from embedfleet_workers.rate_limits.limiter import Admission, Limiter
from embedfleet_workers.rate_limits.quota import Amounts, LimitKey
from embedfleet_workers.rate_limits.registry import LimiterRegistry
from embedfleet_workers.stop import Stop

log = logging.getLogger(__name__)

# So many full requests are answered before more inputs are tried than were once refused.
FULL_ANSWERS_TO_GROW = 64
# Estimates change a little while a request waits: that is no reason to cut it anew.
OVERSIZED = 1.25


@dataclass(frozen=True, slots=True)
class Request:
    """Some texts of a batch: `rows[i]` is the row of `texts[i]`, `tokens[i]` its estimate."""

    rows: Sequence[int]
    texts: Sequence[str]
    tokens: Sequence[int]

    def halves(self) -> tuple[Request, Request]:
        middle = len(self.rows) // 2
        return (
            Request(self.rows[:middle], self.texts[:middle], self.tokens[:middle]),
            Request(self.rows[middle:], self.texts[middle:], self.tokens[middle:]),
        )


@dataclass(frozen=True, slots=True)
class Oversized:
    """A request that is larger than is known by now to be good; `rate_limited`: a 429 said so."""

    rate_limited: bool


@dataclass(slots=True)
class Health:
    """When a model last gave this process a good answer."""

    answered_at: float | None = None

    def note(self) -> None:
        self.answered_at = time.monotonic()

    def is_well_since(self, moment: float) -> bool:
        return self.answered_at is not None and self.answered_at > moment


@dataclass(slots=True)
class Endpoint:
    """What all requests of one space have in common: an adapter, a rate limiter, what was learnt.

    A space that draws on several keys or deployments would have one of these for each.
    """

    space: Space
    adapter: Adapter
    account: str
    registry: LimiterRegistry
    timeout_s: float
    health: Health = field(default_factory=Health)
    calibration: Calibration = field(default_factory=Calibration)
    most_inputs: int = 0
    """Inputs of one request: the provider's cap, or fewer while it refuses so many."""
    _full_answers: int = 0

    def __post_init__(self) -> None:
        self.most_inputs = self.most_inputs or self.adapter.caps.inputs

    @property
    def limiter(self) -> Limiter:
        """What it draws on now: a person may have put the model into a group since."""
        return self.registry.limiter(self.space.provider, self.space.model, self.account)

    def take(self, whole: Request) -> tuple[Request, Request]:
        """Of texts in their order as many as one request should hold now, and the rest.

        A text that is beyond what it should hold goes alone.
        """
        most, end, held = self._most_tokens, 0, 0
        for count in whole.tokens[: self.most_inputs]:
            held += self.calibration.corrected(count)
            if end > 0 and held > most:
                break
            end += 1
        return _slice(whole, 0, end), _slice(whole, end, len(whole.rows))

    def is_oversized(self, request: Request) -> bool:
        """Whether a request of several texts is much larger than one should be by now."""
        tokens = sum(self.calibration.scaled(request.tokens))
        return len(request.rows) > 1 and tokens > OVERSIZED * self._most_tokens

    @property
    def _most_tokens(self) -> float:
        limits = [self.adapter.caps.tokens, self.limiter.most_tokens]
        return min((limit for limit in limits if limit is not None), default=math.inf)

    def costs(self, request: Request) -> Amounts:
        """What a request takes of the quota, as far as one can tell before it is answered."""
        return self.adapter.costs(self.calibration.scaled(request.tokens))

    def shrink(self, refused: int) -> None:
        """Send fewer than the inputs of a request that was too large."""
        self.most_inputs = max(1, min(self.most_inputs, (refused + 1) // 2))
        self._full_answers = 0

    def restore(self) -> None:
        """Send as many inputs as the provider states that it takes."""
        self.most_inputs, self._full_answers = self.adapter.caps.inputs, 0

    def grow(self, answered: int) -> None:
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
            await self.limiter.stop(stop)
        return ProviderStopped(stop, provider=self.space.provider, model=self.space.name)

    def tell_admitted(self, lane: Lane, waited_s: float) -> None:
        if signals.request_admitted.receivers:
            title = _title(self.limiter.key)
            signals.request_admitted.send(signals.Admitted(title, lane, waited_s))

    async def exchange(
        self, request: Request, kind: Kind, admission: Admission, costs: Amounts
    ) -> Part | RateLimited | TooLarge | Rejected | Stop | Faulty:
        """One call, and what became of it told to the limiter in every case."""
        try:
            async with asyncio.timeout(self.timeout_s):
                reply: Reply = await self.adapter.send(request.texts, kind)
        except TimeoutError:
            reply = Faulty(f"no whole answer within {self.timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 - what no adapter foresaw is no text's fault
            reply = Faulty(f"the call failed ({type(error).__name__})")
            # Where, and not what: the message may quote a text or a key.
            where = traceback.extract_tb(error.__traceback__)[-1]
            log.error("%s: %s at %s:%d", self.space.name, reply.reason, where.name, where.lineno)  # noqa: TRY400
        except BaseException:
            # It was sent and counts, whoever called it off.
            await admission.settle(timed=False)
            raise
        if isinstance(reply, Answer):
            read = self._part(request, reply)
            if isinstance(read, Part):
                self._tell("answered")
                await admission.settle({**costs, "tokens": read.spent.tokens}, reply.reading)
                return read
            reply = read
        match reply:
            case RateLimited(retry_after_s, reading):
                self._tell("rate_limited")
                await admission.rate_limited(retry_after_s, reading)
            case Faulty():
                self._tell("faulty")
                await admission.failed()
            case TooLarge() | Rejected() | Stop():
                self._tell("refused")
                await admission.settle({**costs, "tokens": 0}, timed=False)
        return reply

    def _tell(self, result: signals.Result) -> None:
        if signals.request_answered.receivers:
            signals.request_answered.send(signals.Answered(_title(self.limiter.key), result))

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


def _title(key: LimitKey) -> str:
    """Without the account, which is nobody's business."""
    return f"{key.provider}/{key.group}"


def _slice(whole: Request, start: int, end: int) -> Request:
    return Request(whole.rows[start:end], whole.texts[start:end], whole.tokens[start:end])


def paid(reply: Part | Reply) -> int:
    """The tokens that an answer states, usable or not."""
    match reply:
        case Part(spent=spent):
            return spent.tokens
        case Faulty(answer=Answer(tokens=tokens)):
            return tokens or 0
    return 0

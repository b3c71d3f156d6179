"""The fan-out: the requests that one batch becomes at a provider, several of them at once.

Each waits for the rate limiter, is exchanged with the provider, and given out as it is answered.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from embedfleet_schema.turns import Lane
from embedfleet_schema.types import Kind
from embedfleet_workers.allowance import UNLIMITED, Allowance
from embedfleet_workers.backoff import full_jitter
from embedfleet_workers.embedders.api.answers import width_of
from embedfleet_workers.embedders.api.endpoint import Endpoint, Oversized, Request, paid
from embedfleet_workers.embedders.api.providers.adapter import (
    Faulty,
    RateLimited,
    Rejected,
    TooLarge,
)
from embedfleet_workers.embedders.protocol import Part
from embedfleet_workers.embedding_errors import (
    AboveRateLimit,
    BadAnswer,
    EmbedderBusy,
    EmbeddingError,
    InputAtFault,
    ProviderStopped,
    ReservationSpent,
)
from embedfleet_workers.stop import Stop

PROBE = Request([0], ["A probe."], [3])
# How long a batch that has begun waits to be admitted.
BEGUN_WAIT_S = 60.0
# Faults of one request; with three in ten answers faulty, one request in 400 meets so many.
TRIES = 5
BACKOFF_BASE_S = 0.5
BACKOFF_LIMIT_S = 20.0
# A model that is down is left alone for about so long.
OUTAGE_S = 30.0
# What is raised of several errors: first what concerns everybody, then what names a text, and
# what charges the batch nothing only where there is nothing else.
_GRAVEST = (ProviderStopped, EmbedderBusy, InputAtFault, BadAnswer, EmbeddingError)


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A request that met one fault after the other, the first of them at `since`."""

    fault: Faulty
    since: float


class WaitPolicy:
    """How long the requests of one batch wait to be admitted: the first one briefly or not at all;
    and in which lane.

    Whoever waits inside it has sent nothing, and can be called off.
    """

    def __init__(self, first_wait_s: float, lane: Lane) -> None:
        self.lane = lane
        self.answered = False
        self._first_wait_s = first_wait_s
        self._waiting: set[asyncio.Task[object]] = set()
        self._over = False
        # One request of a batch asks at a time: those behind it are cut when it was admitted.
        self._asking = asyncio.Lock()
        self._asker: asyncio.Task[object] | None = None

    def max_wait_s(self, *, leads: bool, rate_limited: bool) -> float:
        """The request that leads keeps to the short wait until an answer, and so does one that was
        rate limited: the slot is somebody else's while the provider is left alone.
        """
        is_short = rate_limited or (leads and not self.answered)
        return self._first_wait_s if is_short else BEGUN_WAIT_S

    async def enter(self) -> None:
        """Wait until no other request of the batch waits to be admitted."""
        with self:
            await self._asking.acquire()
        self._asker = asyncio.current_task()

    def leave(self) -> None:
        """Let the next one ask, if it is this task that asks."""
        if self._asker is not None and self._asker is asyncio.current_task():
            self._asker = None
            self._asking.release()

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


class FanOut:
    """One call of `ApiEmbedder.parts`. Everything but its making happens on the event loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        whole: Request,
        kind: Kind,
        policy: WaitPolicy,
        give: Callable[[Part], None],
        allowance: Allowance = UNLIMITED,
    ) -> None:
        """`give` takes each answer as it comes, and `allowance` pays where there is a budget."""
        self._endpoint = endpoint
        # What was not cut yet, and requests that have to be tried in smaller pieces.
        self._rest = whole
        self._pieces: deque[Request] = deque()
        self._kind = kind
        self._policy = policy
        self._give = give
        self._allowance = allowance
        self._errors: list[EmbeddingError] = []
        self._halted = self._rate_limited = False
        self._workers: list[asyncio.Task[None]] = []

    async def run(self, at_once: int) -> None:
        """Send everything, so many requests at once.

        Raises:
            The gravest of the errors that were met, once all answers are given out.
        """
        await self._endpoint.limiter.look()
        for number in range(0 if self._halted else min(at_once, len(self._rest.rows))):
            self._workers.append(asyncio.create_task(self._work(leads=number == 0)))
        ends = await asyncio.gather(*self._workers, return_exceptions=True)
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
        self._policy.call_off()

    async def stop(self) -> None:
        """Take back what was not sent, give up what was, and wait until the limiter knows."""
        self._halted = True
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self, *, leads: bool) -> None:
        """Send one request after the other until none is left."""
        while not self._halted:
            await self._policy.enter()
            try:
                if self._halted or not (request := self._next()).rows:
                    break
                began = time.monotonic()
                reply = await self._answer(request, leads=leads, allowance=self._allowance)
                await self._take(reply, request, since=began)
            except (ProviderStopped, EmbedderBusy) as error:
                self._errors.append(error)
                await self.halt()
            except EmbeddingError as error:
                self._errors.append(error)
            finally:
                self._policy.leave()

    def _next(self) -> Request:
        """As much as one request should hold, of what is left; without rows where nothing is."""
        if not self._pieces:
            request, self._rest = self._endpoint.take(self._rest)
            return request
        request, left = self._endpoint.take(self._pieces.popleft())
        if left.rows:
            self._pieces.appendleft(left)
        return request

    async def _answer(
        self,
        request: Request,
        *,
        tries: int = TRIES,
        leads: bool = False,
        allowance: Allowance = UNLIMITED,
    ) -> Part | TooLarge | Rejected | GivenUp | Oversized:
        """Send a request until it is answered; after a 429 or a fault it is admitted anew.

        A part without rows is given out for each answer that is not usable and was paid for.

        Returns:
            The answer, the refusal, what `tries` faults in a row came to, or that it has to be cut.

        Raises:
            EmbedderBusy: it would have to wait too long.
            ProviderStopped: a person has to act.
            ReservationSpent: `allowance` does not pay for it, or not once more.
        """
        endpoint, policy = self._endpoint, self._policy
        started = time.monotonic()
        faults, rate_limited, since = 0, self._rate_limited, started
        while True:
            allowance.take(request.rows)
            max_wait_s = policy.max_wait_s(leads=leads, rate_limited=rate_limited)
            costs = endpoint.costs(request)
            ready = time.monotonic()
            with policy:
                admission = await endpoint.limiter.admit(
                    costs, max_wait_s=max_wait_s, lane=policy.lane
                )
            endpoint.tell_admitted(policy.lane, time.monotonic() - ready)
            policy.leave()
            if endpoint.is_oversized(request):
                allowance.settle(request.rows, 0)
                await admission.withdraw()
                return Oversized(rate_limited)
            reply = await endpoint.exchange(request, self._kind, admission, costs)
            allowance.settle(request.rows, paid(reply))
            match reply:
                case Part() as part:
                    endpoint.grow(len(part.rows))
                    return part
                case RateLimited():
                    rate_limited = True
                case TooLarge() | Rejected() as refused:
                    return refused
                case Stop() as stop:
                    raise await endpoint.stopped(stop)
                case Faulty() as fault:
                    faults += 1
                    since = time.monotonic() if faults == 1 else since
                    if tokens := paid(fault):
                        self._give(endpoint.without_rows(tokens))
                    if faults >= tries or time.monotonic() - started >= 2 * endpoint.timeout_s:
                        return GivenUp(fault, since)
                    await policy.rest(_pause_s(fault, faults))

    async def _take(
        self,
        reply: Part | TooLarge | Rejected | GivenUp | Oversized,
        request: Request,
        *,
        since: float,
    ) -> None:
        """Give an answer out, or find out whose fault it is that there is none."""
        match reply:
            case Part():
                self._policy.answered = True
                self._rate_limited = False
                self._give(reply)
            case GivenUp(fault, first_fault_at):
                await self._failed(fault, first_fault_at)
            case Oversized(rate_limited):
                self._rate_limited = rate_limited
                self._pieces.appendleft(request)
            case _:
                await self._refused(request, reply, since=since)

    async def _failed(self, fault: Faulty, since: float) -> None:
        """Charge a request that fails again and again while the model answers others.

        Raises:
            BadAnswer, EmbeddingError: the request is at fault.
        """
        await self._probe(since)
        reason = f"{self._endpoint.space.provider}: {fault.reason}, again and again"
        raise (BadAnswer if fault.bad_answer else EmbeddingError)(reason=reason)

    async def _refused(
        self, request: Request, refusal: TooLarge | Rejected, *, since: float
    ) -> None:
        """Halve the request until the text is alone that the provider does not take.

        Raises:
            AboveRateLimit: it is one text, and larger than the rate limit.
        """
        if len(request.rows) > 1:
            if isinstance(refusal, TooLarge):
                self._endpoint.shrink(len(request.rows))
            self._pieces.extendleft(reversed(request.halves()))
            return
        if isinstance(refusal, TooLarge):
            # It was the text that was too large, and not the number of texts.
            self._endpoint.restore()
            if refusal.by_limit:
                raise AboveRateLimit(reason=refusal.reason)
        await self._probe(since)
        self._errors.append(InputAtFault(reason=refusal.reason))

    async def _probe(self, since: float) -> None:
        """Before a text is blamed: does the model answer anything at all since then?

        Raises:
            ProviderStopped: no text is at fault, but the model's name, its options or the account.
            EmbedderBusy: the model is down.
        """
        endpoint = self._endpoint
        if endpoint.health.is_well_since(since):
            return
        found = await self._answer(PROBE, tries=1)
        match found:
            case Part(spent=spent):
                self._give(endpoint.without_rows(spent.tokens))
            case GivenUp(Faulty(reason, answer=answer)):
                width = width_of(answer.items) if answer is not None else None
                if width is not None and width != endpoint.space.dimensions:
                    stop = Stop("wrong_dimensions", _other_width(width), whole_account=False)
                    raise await endpoint.stopped(stop)
                seconds = random.uniform(0.5, 1.5) * OUTAGE_S  # noqa: S311 - no secret depends on it
                raise EmbedderBusy(seconds=seconds, reason=f"{endpoint.space.provider}: {reason}")
            case TooLarge() | Rejected():
                reason = f"it refuses every text: {found.reason}"
                stop = Stop("request_refused", reason, whole_account=False)
                raise await endpoint.stopped(stop)


def _other_width(width: int) -> str:
    return (
        f"its vectors have {width} dimensions, and those of the collection another number. If it "
        f"is the model that gives {width}, make the collection anew with --dimensions {width}"
    )


def _pause_s(fault: Faulty, faults: int) -> float:
    """At least what the server asks for, within reason."""
    jitter = full_jitter(faults, base_s=BACKOFF_BASE_S, limit_s=BACKOFF_LIMIT_S)
    return max(jitter, min(fault.retry_after_s or 0.0, BACKOFF_LIMIT_S))

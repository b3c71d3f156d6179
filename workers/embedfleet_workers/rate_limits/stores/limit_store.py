"""Where the limiter keeps its running state: one protocol, three stores, the same answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from embedfleet_schema.turns import Lane
from embedfleet_workers.rate_limits.quota import NOTHING, Amounts, LimitKey, Reading
from embedfleet_workers.stop import Stop

# A wait that is shorter than this is taken for none: a second round trip would cost as much.
NEAR_S = 0.003
# A stop is a hint that holds calls: by the time it ends, who saw the refusal has written to
# PostgreSQL that the space is paused; and if not, somebody else sees it himself.
STOP_S = 10.0
# How much earlier who is interactive counts as having come for a slot: beyond that, others have
# waited long enough.
HEAD_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Reservation:
    """A request may be sent in `wait_s` seconds; at 0 it is admitted, `answered_at` by the store.

    `tat` is its theoretical arrival time by the clock of the state that `epoch` names. `stated` are
    the limits from headers that the store goes by, `learnt` those that refusals taught where no
    other is known, and `largest` the tokens that a request may hold by what they taught (0: any
    number). Without any limit it is not `is_limited`.
    """

    epoch: str
    tat: float
    wait_s: float
    answered_at: float = 0.0
    is_limited: bool = True
    stated: Amounts = field(default_factory=dict)
    learnt: Amounts = field(default_factory=dict)
    largest: float = 0.0


@dataclass(frozen=True, slots=True)
class WaitTooLong:
    """The request could be sent in `wait_s` seconds, which is too late: nothing was reserved."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Penalty:
    """For a 429: the time that the provider asked for, or what is known instead; -1 for nothing.

    `jitter` in [0, 1) is drawn by the caller, so that stores stay deterministic. `about` are the
    dimensions that its words name.
    """

    pause_s: float = -1.0
    jitter: float = 0.0
    why: str = "the provider answered 429"
    by: str = ""
    about: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ClockState:
    """What waiting callers have to know at once: a stop, and where the clock of a state stands.

    Times are microseconds; the clock shows `clock`, and goes at `speed` after another `paused`.
    `stated`, `learnt` and `largest` are those of a `Reservation`.
    """

    epoch: str
    clock: float
    speed: float
    paused: float
    stopped: Stop | None
    stated: Amounts = field(default_factory=dict)
    learnt: Amounts = field(default_factory=dict)
    largest: float = 0.0

    def wait_s(self, tat: float) -> float:
        """Seconds until the clock shows `tat`."""
        return (max(0.0, (tat - self.clock) / self.speed) + self.paused) / 1e6


@dataclass(frozen=True, slots=True)
class DimensionState:
    """One dimension of a key: limits per minute, use of the last minute, and the queue before it.

    `effective` is the rate that is kept; 0 stands for none. `foreign` is the share of the quota
    that somebody else was found to use. `learnt` is the limit by what was refused; 0 where one is
    known.
    """

    stated: float
    effective: float
    used: float
    ahead_s: float
    foreign: float
    learnt: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A key as a person wants to see it. `largest` is that of a `Reservation`."""

    dimensions: Mapping[str, DimensionState]
    paused_s: float = 0.0
    paused_why: str = ""
    paused_by: str = ""
    slowed_to: float = 1.0
    in_flight: int = 0
    waiting: int = 0
    stopped: Stop | None = None
    stopped_by: str = ""
    largest: float = 0.0


def head_start_s(lane: Lane) -> float:
    """What a lane has before others in the queue for a slot."""
    return HEAD_START_S if lane == "interactive" else 0.0


class LimitStore(Protocol):
    """Running state by key. Each call is one step that no other call sees half done."""

    async def reserve(
        self,
        key: LimitKey,
        costs: Amounts,
        *,
        quotas: Amounts,
        stated: Amounts,
        target: float,
        max_wait_s: float,
    ) -> Reservation | WaitTooLong | Stop:
        """The next free time for a request of these costs; it is taken with the answer.

        `quotas` are what a person set, `stated` what headers last said, as far as this process
        knows. A store that knows a newer limit goes by that, an empty one takes `stated` over.
        """
        ...

    async def confirm(
        self, key: LimitKey, reservation: Reservation, costs: Amounts
    ) -> Reservation | Stop | None:
        """Ask whether its time has come: a pause may have moved it. Stop gives it back.

        None where the store does not know the reservation: it was emptied since.
        """
        ...

    async def refund(
        self, key: LimitKey, reservation: Reservation, costs: Amounts, *, sent: bool
    ) -> None:
        """Give a reservation back; `sent` tells whether the request had been admitted."""
        ...

    async def settle(
        self,
        key: LimitKey,
        reservation: Reservation,
        delta: Amounts,
        reading: Reading,
        costs: Amounts = NOTHING,
    ) -> None:
        """An answer came; `delta` is what it cost beyond what had been reserved.

        `costs` is all that it cost, where it says something of what a request may hold.
        """
        ...

    async def penalize(
        self,
        key: LimitKey,
        reservation: Reservation,
        refunds: Amounts,
        reading: Reading,
        penalty: Penalty,
    ) -> float:
        """A 429 came: the seconds that the whole fleet now waits.

        `refunds` names every dimension of the request, with 0 where the provider counts refusals.
        """
        ...

    async def acquire(
        self,
        key: LimitKey,
        holder: str,
        *,
        slots: int,
        lease_s: float,
        wait_s: float,
        lane: Lane = "bulk",
    ) -> bool:
        """Take one of the semaphore's slots, first come, first served; False: it took too long.
        What is interactive counts as if it had come `HEAD_START_S` earlier.

        A slot that is not released comes back by itself after `lease_s`.
        """
        ...

    async def release(self, key: LimitKey, holder: str, *, slots: int) -> None:
        """Give a slot back, or leave the queue for one."""
        ...

    async def stop(self, key: LimitKey, stop: Stop, by: str) -> None:
        """Refuse everything for `STOP_S`."""
        ...

    async def resume(self, key: LimitKey) -> None:
        """Take a stop back."""
        ...

    async def clock_state(self, key: LimitKey) -> ClockState:
        """What waiting callers have to know."""
        ...

    async def snapshot(self, key: LimitKey) -> Snapshot | None:
        """All there is to know; None where nothing was ever asked."""
        ...

    async def keys(self) -> Sequence[LimitKey]:
        """The keys that have a state."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...

"""Where the limiter keeps its running state: one protocol, two stores, the same answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from embedfleet_workers.rate_limits.quota import Amounts, LimitKey
from embedfleet_workers.stop import Stop

# A turn that is nearer than this is taken as it is: a second round trip would cost as much.
NEAR_S = 0.003
# A stop is a hint that holds calls: by the time it ends, who saw the refusal has written to
# PostgreSQL that the space is paused; and if not, somebody else sees it himself.
STOP_S = 10.0


class StoreAway(ConnectionError):
    """The store does not answer; it may have done what it was asked, or not."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request costs in one dimension, and the limits per minute this process knows of.

    `quota` is what a person set, `seen` what headers last said; 0 is unknown. A store that has seen
    a newer figure goes by that, an empty one takes `seen` over.
    """

    cost: float
    quota: float = 0.0
    seen: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer said of one dimension: the limit, and the used part of it (-1: nothing)."""

    limit: float
    missing: float = -1.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """A slot in the schedule: `epoch` names the schedule, `tat` is a time of its own clock."""

    epoch: str
    tat: float


@dataclass(frozen=True, slots=True)
class Reservation:
    """A request may be sent in `wait_s` seconds; at 0 it is admitted, at `now` of the store.

    `seen` are the limits that the store goes by, as far as they come from headers.
    """

    ticket: Ticket
    wait_s: float
    now: float = 0.0
    limited: bool = True
    seen: Amounts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WaitTooLong:
    """The turn would come in `wait_s` seconds, which is too late: nothing was reserved."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Lost:
    """The store does not know the ticket: it was emptied since."""


@dataclass(frozen=True, slots=True)
class Penalty:
    """A 429: the time that the provider asked for, or what is known instead; -1 for nothing.

    `jitter` in [0, 1) is drawn by the caller, so that stores stay deterministic.
    """

    pause_s: float = -1.0
    jitter: float = 0.0
    why: str = "the provider answered 429"
    by: str = ""


@dataclass(frozen=True, slots=True)
class ClockState:
    """What waiting callers have to know at once: a stop, and where the schedule's clock stands.

    Times are microseconds; the clock shows `clock`, and goes at `speed` after another `paused`.
    """

    epoch: str
    clock: float
    speed: float
    paused: float
    stopped: Stop | None

    def wait_s(self, at: float) -> float:
        """Seconds until the schedule's clock shows `at`."""
        return (max(0.0, (at - self.clock) / self.speed) + self.paused) / 1e6


@dataclass(frozen=True, slots=True)
class DimensionState:
    """One dimension of a key: limits per minute, use of the last minute, and the queue before it.

    `effective` is the rate that the schedule runs at; 0 stands for none. `foreign` is the share of
    the quota that somebody else was found to use.
    """

    seen: float
    effective: float
    used: float
    ahead_s: float
    foreign: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A key as a person wants to see it."""

    dimensions: Mapping[str, DimensionState]
    paused_s: float = 0.0
    paused_why: str = ""
    paused_by: str = ""
    slowed_to: float = 1.0
    in_flight: int = 0
    waiting: int = 0
    stopped: Stop | None = None
    stopped_by: str = ""


class LimitStore(Protocol):
    """Running state by key. Each call is one step that no other call sees half done."""

    async def reserve(
        self, key: LimitKey, costs: Mapping[str, Cost], *, target: float, max_wait_s: float
    ) -> Reservation | WaitTooLong | Stop:
        """The next free turn for a request of this cost; it is taken with the answer."""
        ...

    async def confirm(
        self, key: LimitKey, ticket: Ticket, costs: Amounts
    ) -> Reservation | Lost | Stop:
        """Ask whether the turn has come: a pause may have moved it. Stop gives it back."""
        ...

    async def refund(self, key: LimitKey, ticket: Ticket, costs: Amounts, *, sent: bool) -> None:
        """Give a turn back; `sent` tells whether it had been admitted."""
        ...

    async def settle(
        self, key: LimitKey, turn: Reservation, delta: Amounts, readings: Mapping[str, Reading]
    ) -> None:
        """An answer came; `delta` is what it cost beyond what had been reserved."""
        ...

    async def penalize(
        self,
        key: LimitKey,
        turn: Reservation,
        refunds: Amounts,
        readings: Mapping[str, Reading],
        penalty: Penalty,
    ) -> float:
        """A 429 came: the seconds that the whole fleet now waits.

        `refunds` names every dimension of the request, with 0 where the provider counts refusals.
        """
        ...

    async def acquire(
        self, key: LimitKey, ticket: str, *, slots: int, lease_s: float, wait_s: float
    ) -> bool:
        """Take one of `slots` for requests under way, first come, first served; False: too late.

        A slot that is not given back comes back by itself after `lease_s`.
        """
        ...

    async def release(self, key: LimitKey, ticket: str, *, slots: int) -> None:
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

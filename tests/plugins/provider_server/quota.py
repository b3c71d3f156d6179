"""How a provider enforces a limit of so much per minute: three ways that are in use."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

MINUTE_S = 60.0
# Sums of floats: a cost that fits but for rounding fits.
_ROUNDING = 1e-6


class Quota(Protocol):
    """One dimension of a limit. `limit` is per minute; times are of one clock of the caller."""

    limit: float

    def wait(self, now: float, cost: float) -> float:
        """Seconds until a request of `cost` would fit; 0 if it fits now, inf if it never will."""
        ...

    def take(self, now: float, cost: float) -> None: ...

    def left(self, now: float) -> float: ...

    def full_in(self, now: float) -> float:
        """Seconds until nothing of the limit is in use."""
        ...

    def change(self, now: float, limit: float) -> None: ...


class Bucket:
    """Refills without a pause, and holds what `capacity_s` seconds bring."""

    def __init__(self, now: float, limit: float, capacity_s: float = MINUTE_S) -> None:
        self.limit = limit
        self._capacity_s = capacity_s
        self._level = self._capacity
        self._at = now

    @property
    def _capacity(self) -> float:
        return self.limit / MINUTE_S * self._capacity_s

    def wait(self, now: float, cost: float) -> float:
        if cost > self._capacity + _ROUNDING:
            return math.inf
        missing = cost - self.left(now) - _ROUNDING
        return max(0.0, missing / (self.limit / MINUTE_S))

    def take(self, now: float, cost: float) -> None:
        self._level = self.left(now) - cost

    def left(self, now: float) -> float:
        refilled = max(0.0, now - self._at) * self.limit / MINUTE_S
        self._level = min(self._capacity, self._level + refilled)
        self._at = max(now, self._at)
        return self._level

    def full_in(self, now: float) -> float:
        return (self._capacity - self.left(now)) / (self.limit / MINUTE_S)

    def change(self, now: float, limit: float) -> None:
        self.left(now)
        self.limit = limit
        self._level = min(self._level, self._capacity)


class SlidingLog:
    """Remembers each request of the last `window_s` seconds and never lets their sum be more."""

    def __init__(self, now: float, limit: float, window_s: float = MINUTE_S) -> None:
        del now
        self.limit = limit
        self._window_s = window_s
        self._log: deque[tuple[float, float]] = deque()
        self._sum = 0.0

    @property
    def _most(self) -> float:
        return self.limit / MINUTE_S * self._window_s

    def wait(self, now: float, cost: float) -> float:
        if cost > self._most + _ROUNDING:
            return math.inf
        missing = cost - self.left(now) - _ROUNDING
        until = now
        for at, taken in self._log:
            if missing <= 0:
                break
            missing -= taken
            until = at + self._window_s
        return until - now

    def take(self, now: float, cost: float) -> None:
        self._log.append((now, cost))
        self._sum += cost

    def left(self, now: float) -> float:
        while self._log and self._log[0][0] <= now - self._window_s:
            self._sum -= self._log.popleft()[1]
        return self._most - self._sum

    def full_in(self, now: float) -> float:
        self.left(now)
        return self._log[-1][0] + self._window_s - now if self._log else 0.0

    def change(self, now: float, limit: float) -> None:
        del now
        self.limit = limit


class Slices:
    """Cuts time into slices of `slice_s` seconds; what one slice does not use is lost."""

    def __init__(self, now: float, limit: float, slice_s: float = 1.0) -> None:
        self.limit = limit
        self._slice_s = slice_s
        self._slice = self._number(now)
        self._used = 0.0

    @property
    def _most(self) -> float:
        return self.limit / MINUTE_S * self._slice_s

    def _number(self, now: float) -> int:
        return math.floor(now / self._slice_s)

    def wait(self, now: float, cost: float) -> float:
        if cost > self._most + _ROUNDING:
            return math.inf
        return 0.0 if cost <= self.left(now) + _ROUNDING else self._next_in(now)

    def take(self, now: float, cost: float) -> None:
        self.left(now)
        self._used += cost

    def left(self, now: float) -> float:
        if self._number(now) != self._slice:
            self._slice, self._used = self._number(now), 0.0
        return self._most - self._used

    def full_in(self, now: float) -> float:
        self.left(now)
        return self._next_in(now) if self._used else 0.0

    def change(self, now: float, limit: float) -> None:
        self.left(now)
        self.limit = limit

    def _next_in(self, now: float) -> float:
        return (self._number(now) + 1) * self._slice_s - now


_KINDS = {"bucket": Bucket, "log": SlidingLog, "slices": Slices}


class Limit:
    """What is enforced, and the minute that headers tell of."""

    def __init__(self, kind: str, now: float, limit: float, *, filled: float = 1.0) -> None:
        """`kind` has a name and seconds: `bucket:60`, `bucket:1`, `log:60`, `slices:1`.

        `filled` is the share that is not in use at the beginning.
        """
        name, _, seconds = kind.partition(":")
        self.quota: Quota = _KINDS[name](now, limit, float(seconds))
        whole = float(seconds) == MINUTE_S
        self.shown: Quota = self.quota if whole else Bucket(now, limit)
        self.take(now, (1 - filled) * limit)

    def take(self, now: float, cost: float) -> None:
        self.quota.take(now, cost)
        if self.shown is not self.quota:
            self.shown.take(now, cost)

    def change(self, now: float, limit: float) -> None:
        self.quota.change(now, limit)
        self.shown.change(now, limit)

"""A circuit breaker: after a fault that all callers share, one of them tries if it is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from embedfleet_schema.forks import renewed_after_fork


class OneAtATime(Protocol):
    """A right to try that one process of the fleet has at a time."""

    def take(self) -> bool: ...

    def give_back(self) -> None: ...


class Breaker:
    """Closed it lets everyone pass; open, one caller every `probe_s` seconds.

    With a `leadership` that holds for `probe_s` seconds, one caller of the whole fleet. `clock`
    gives seconds.
    """

    def __init__(
        self,
        probe_s: float,
        leadership: OneAtATime | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probe_s = probe_s
        self._leadership = leadership
        self._clock = clock
        self._next_probe: float | None = None
        self._renew()
        renewed_after_fork(self, "_renew")

    @property
    def is_open(self) -> bool:
        return self._next_probe is not None

    def admits(self) -> bool:
        with self._lock:
            if self._next_probe is None:
                return True
            now = self._clock()
            if now < self._next_probe:
                return False
            self._next_probe = now + self._probe_s
            return self._leadership is None or self._leadership.take()

    def open(self) -> bool:
        """The fault is there; returns whether that is news."""
        with self._lock:
            was_closed = self._next_probe is None
            self._next_probe = self._clock() + self._probe_s
            return was_closed

    def close(self) -> bool:
        """The fault is over: who else of the fleet waits may find that out at once.

        Returns whether that is news.
        """
        with self._lock:
            if self._next_probe is None:
                return False
            self._next_probe = None
            if self._leadership is not None:
                self._leadership.give_back()
            return True

    def _renew(self) -> None:
        self._lock = threading.Lock()

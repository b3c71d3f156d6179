"""A circuit breaker: after a fault that all batches share, one caller tries if it is over."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class OneAtATime(Protocol):
    """A right to try that one process of the fleet has at a time."""

    def take(self) -> bool: ...

    def give_back(self) -> None: ...


class Breaker:
    """Closed it lets everyone pass; open, one caller every `probe_s` seconds.

    With a `turn` that holds for `probe_s` seconds, one caller of the whole fleet.
    """

    def __init__(self, probe_s: float, turn: OneAtATime | None = None) -> None:
        self._probe_s = probe_s
        self._turn = turn
        self._lock = threading.Lock()
        self._next_probe: float | None = None

    def admits(self) -> bool:
        with self._lock:
            if self._next_probe is None:
                return True
            now = time.monotonic()
            if now < self._next_probe:
                return False
            self._next_probe = now + self._probe_s
            return self._turn is None or self._turn.take()

    def open(self) -> None:
        with self._lock:
            self._next_probe = time.monotonic() + self._probe_s

    def close(self) -> None:
        """The fault is over: who else of the fleet waits may find that out at once."""
        with self._lock:
            if self._next_probe is None:
                return
            self._next_probe = None
            if self._turn is not None:
                self._turn.give_back()

"""A circuit breaker: after a fault that all batches share, one caller tries if it is over."""

from __future__ import annotations

import threading
import time


class Breaker:
    """Closed it lets everyone pass; open, one caller every `probe_s` seconds."""

    def __init__(self, probe_s: float) -> None:
        self._probe_s = probe_s
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
            return True

    def open(self) -> None:
        with self._lock:
            self._next_probe = time.monotonic() + self._probe_s

    def close(self) -> None:
        with self._lock:
            self._next_probe = None

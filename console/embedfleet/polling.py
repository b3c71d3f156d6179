"""How often to look at what is going on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")

# Of the time, this share at most is spent on looking: the database has other things to do.
LOOKING_SHARE = 0.1


def timed(look: Callable[[], Seen]) -> tuple[Seen, float]:
    """What a look shows, and the seconds that it took."""
    began = time.monotonic()
    seen = look()
    return seen, time.monotonic() - began


def rest_s(interval_s: float, looked_s: float) -> float:
    """Seconds until the next look, `interval_s` where a look (`looked_s`) is quick."""
    return max(interval_s, looked_s / LOOKING_SHARE - looked_s)

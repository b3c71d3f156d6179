"""How often each API key may ask, in this process: GCRA, in memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from embedfleet.web.web_errors import TooMany

MINUTE_S = 60.0
# Of a minute, that much may be used at once after a pause.
BURST = 0.25
MOST_KEYS = 10_000
ROUNDING_S = 1e-9


class Rates:
    """One theoretical arrival time (`tat`) for each key."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tat: dict[int, float] = {}

    def take(self, key_id: int, per_minute: int) -> None:
        """Count one request.

        Raises:
            TooMany: the key has none left; it says when it has.
        """
        now, step = self._clock(), MINUTE_S / per_minute
        tat = max(self._tat.get(key_id, now), now)
        early_s = tat + step - now - max(step, BURST * MINUTE_S)
        if early_s > ROUNDING_S:
            raise TooMany(per_minute=per_minute, retry_after_s=max(1, math.ceil(early_s)))
        if len(self._tat) >= MOST_KEYS:
            self._tat = {key: each for key, each in self._tat.items() if each > now}
        self._tat[key_id] = tat + step

"""How long to wait after failures in a row."""

from __future__ import annotations

import random


def full_jitter(failures: int, *, base_s: float, limit_s: float) -> float:
    """Seconds, uniform between 0 and the capped exponential: `base_s` after the first failure.

    Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    ceiling = min(limit_s, base_s * 2.0 ** min(failures - 1, 10))
    return random.uniform(0.0, ceiling)  # noqa: S311 - no secret depends on it

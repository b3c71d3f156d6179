"""What the headers of an answer are worth."""

from __future__ import annotations

import math

from embedfleet_workers.rate_limits.quota import Amounts, Observed

# An observed limit of less than this share of what a person set is a figure of another window:
# Azure counts requests in ten seconds, a sixth of a minute.
SANE_SHARE = 0.2
SANE_MOST = 1e12


def is_sane(limit: float, quota: float) -> bool:
    """Whether an observed limit is believed, beside what a person set (0: nothing)."""
    return math.isfinite(limit) and max(1.0, SANE_SHARE * quota) <= limit <= SANE_MOST


def in_force(quota: float, seen: float) -> float:
    """The limit to keep: the smaller of what a person set and what is believed of what was seen.

    0 stands for none, in both and in the result.
    """
    if quota <= 0 or seen <= 0:
        return max(quota, seen)
    return quota if seen < SANE_SHARE * quota else min(quota, seen)


def wait_after_429(costs: Amounts, retry_after_s: float | None, seen: Observed | None) -> float:
    """Seconds until a refused request may come again; -1 where nothing tells.

    The server's own time, else the time in which a bucket refills what the request lacks.
    """
    if retry_after_s is not None and math.isfinite(retry_after_s) and retry_after_s >= 0:
        return retry_after_s
    if seen is None:
        return -1.0
    lacks = [
        # What costs more than a whole limit never fits, however long it waits.
        (min(costs[name], seen.limits[name]) - left) * 60.0 / seen.limits[name]
        for name, left in seen.remaining.items()
        if name in costs and seen.limits.get(name, 0.0) > 0 and costs[name] > left
    ]
    return max(lacks, default=-1.0)

"""The cores that this process may use (in a container, fewer than the machine has), and what they
can do.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

# Where a container finds its own limits.
CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Those that it may run on, and no more than its container may use at a time."""
    there = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        there = len(os.sched_getaffinity(0))
    return max(1, math.ceil(min(there, _quota())))


def _quota() -> float:
    """How many cores the CPU limit of a container is worth, by either version of cgroups."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (CGROUP / "cpu.max").read_text(encoding="ascii").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        of_cpu = CGROUP / "cpu"
        quota = (of_cpu / "cpu.cfs_quota_us").read_text(encoding="ascii")
        period = (of_cpu / "cpu.cfs_period_us").read_text(encoding="ascii")
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    return math.inf


def cpu_flags() -> frozenset[str]:
    """What the CPU can do, as Linux names it (`avx512_bf16`); empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())
